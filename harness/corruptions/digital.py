"""Corruptions of digital processing.

Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261; the constants are those of its reference code.
Its elastic transform is left out: it distorts the image more at severities 1 and 2 than at 3 to 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from PIL.Image import Resampling

from harness.corruptions.base import Corruption
from harness.corruptions.pillow import from_pillow, to_pillow

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Contrast(Corruption):
    """Lower contrast: every channel closer to its mean."""

    GROUP = "digital"

    name: Literal["contrast"] = "contrast"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        kept = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
        mean = x.mean(dim=(1, 2), keepdim=True)
        return mean + kept * (x - mean)


class Pixelate(Corruption):
    """Shrunk by area to 60 % of the side or less, and enlarged again without interpolation."""

    GROUP = "digital"

    name: Literal["pixelate"] = "pixelate"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        kept = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
        height, width = x.shape[1:]
        small = to_pillow(x).resize((int(width * kept), int(height * kept)), Resampling.BOX)
        return from_pillow(small.resize((width, height), Resampling.BOX))
