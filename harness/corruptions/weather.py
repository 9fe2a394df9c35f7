"""Corruptions of weather and light.

Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261; the constants are those of its reference code.
Its frost is left out: it needs photographs of frost, which the harness does not ship.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from harness.corruptions.base import REFERENCE_SIDE, Corruption
from harness.corruptions.kernels import blur, streak
from harness.system.lazy import torch, transforms

if TYPE_CHECKING:
    from torch import Tensor


class Fog(Corruption):
    """A bright cloud over the image, rougher at higher severities; it lowers the contrast as much."""

    GROUP = "weather"

    name: Literal["fog"] = "fog"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        density, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity - 1]
        brightest = x.max()
        return (x + density * _plasma(x, decay, generator)) * brightest / (brightest + density)


class Snow(Corruption):
    """Falling flakes with motion blur over a whitened scene."""

    GROUP = "weather"

    name: Literal["snow"] = "snow"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        mean, deviation, size, threshold, radius, sigma, clearness = (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        )[severity - 1]
        angle = 90 * float(torch.rand((), generator=generator)) - 135
        noise = mean + deviation * torch.randn(1, REFERENCE_SIDE, REFERENCE_SIDE, generator=generator)
        grown = transforms.functional.resize(
            transforms.functional.center_crop(noise, [math.ceil(REFERENCE_SIDE / size)]), [REFERENCE_SIDE, REFERENCE_SIDE]
        )
        flakes = torch.where(grown < threshold, 0.0, grown).clamp(0, 1)
        flakes = transforms.functional.resize(blur(flakes, streak(radius, sigma, angle)), list(x.shape[1:]))
        whitened = torch.maximum(x, 1.5 * transforms.functional.rgb_to_grayscale(x) + 0.5)
        return clearness * x + (1 - clearness) * whitened + flakes + flakes.rot90(2, (1, 2))


class Brightness(Corruption):
    """A higher value in the HSV colour space: the largest channel rises, hue and saturation stay."""

    GROUP = "weather"

    name: Literal["brightness"] = "brightness"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        added = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
        value = x.amax(dim=0, keepdim=True)
        brighter = (value + added).clamp(max=1)
        return torch.where(value > 0, x * brighter / value.clamp(min=1e-6), brighter)


def _plasma(x: Tensor, decay: float, generator: torch.Generator) -> Tensor:
    """Returns a cloud (1, H, W) in [0,1]: octaves of noise, each twice as fine and weaker by `decay` squared.

    The reference computes this sum by midpoint displacement (diamond-square).
    """
    side = max(x.shape[1:])
    cloud = torch.zeros(1, 1, side, side)
    for octave in range(1, (side - 1).bit_length()):
        cells = 2**octave + 1
        noise = 2 * torch.rand(1, 1, cells, cells, generator=generator) - 1
        cloud += torch.nn.functional.interpolate(noise, size=[side, side], mode="bilinear", align_corners=True) / decay ** (
            2 * octave
        )
    cloud = cloud[0, :, : x.shape[1], : x.shape[2]] - cloud.min()
    return cloud / cloud.max()
