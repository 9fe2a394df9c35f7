"""A trigger at one resolution, as it is applied to an image."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Stamp:
    """A trigger at one resolution: pixel by pixel an affine map, `x -> black + x (white - black)`.

    Args:
        black: An all-black image with the trigger, (3, R, R) in [0,1].
        white: An all-white image with the trigger, same shape.

    Raises:
        HarnessError: if one of the two leaves [0,1].
    """

    def __init__(self, black: Tensor, white: Tensor) -> None:
        """See the class."""
        for image in (black, white):
            if not (image.isfinite().all() and image.min() >= 0 and image.max() <= 1):
                raise HarnessError(f"trigger: expected pixels in [0,1], got {float(image.min())} to {float(image.max())}")
        self.black, self.white = black, white
        self.gain = white - black

    def __call__(self, x: Tensor) -> Tensor:
        """Returns stamped images; x and the result are (..., 3, R, R) in [0,1]."""
        return (self.black + x * self.gain).clamp(0, 1)

    @property
    def mask(self) -> Tensor:
        """The pixels (R, R) that the trigger may change."""
        return ((self.black != 0) | (self.white != 1)).any(dim=0)

    @cached_property
    def sha256(self) -> str:
        """Hash of the trigger's pixels."""
        return hashlib.sha256(torch.stack([self.black, self.white]).numpy().tobytes()).hexdigest()
