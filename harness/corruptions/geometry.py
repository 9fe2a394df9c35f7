"""Corruptions of the pose: the object turned, moved or partly hidden. Pixels from outside are mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.corruptions.base import Corruption
from harness.system.lazy import torch, transforms

if TYPE_CHECKING:
    from torch import Tensor


class Rotation(Corruption):
    """Rotation about the centre, clockwise or counter-clockwise, by 5, 10, 15, 30 or 45 degrees."""

    GROUP = "geometry"

    name: Literal["rotation"] = "rotation"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        degrees = (5.0, 10.0, 15.0, 30.0, 45.0)[severity - 1]
        sign = 1 if torch.rand((), generator=generator) < 0.5 else -1
        height, width = x.shape[1:]
        # A rotated square extends at most (sqrt 2 - 1) / 2 = 0.21 of a side beyond the image.
        margin = int(0.21 * max(height, width)) + 2
        turned = transforms.functional.rotate(
            _mirrored(x, margin), sign * degrees, interpolation=transforms.InterpolationMode.BILINEAR
        )
        return transforms.functional.center_crop(turned, [height, width])


class Translation(Corruption):
    """A shift in a random direction by 5, 10, 15, 20 or 25 % of the side, in whole pixels."""

    GROUP = "geometry"

    name: Literal["translation"] = "translation"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        share = (0.05, 0.1, 0.15, 0.2, 0.25)[severity - 1]
        angle = 2 * torch.pi * torch.rand((), generator=generator)
        height, width = x.shape[1:]
        margin = int(share * max(height, width)) + 1
        top = margin + round(float(torch.sin(angle)) * share * height)
        left = margin + round(float(torch.cos(angle)) * share * width)
        return _mirrored(x, margin)[:, top : top + height, left : left + width]


class Occlusion(Corruption):
    """A grey square at a random place over 5, 10, 20, 30 or 40 % of the image's area."""

    GROUP = "geometry"

    name: Literal["occlusion"] = "occlusion"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        share = (0.05, 0.1, 0.2, 0.3, 0.4)[severity - 1] ** 0.5
        height, width = (round(side * share) for side in x.shape[1:])
        top, left = torch.rand(2, generator=generator).tolist()
        top, left = round(top * (x.shape[1] - height)), round(left * (x.shape[2] - width))
        hidden = x.clone()
        hidden[:, top : top + height, left : left + width] = 0.5
        return hidden


def _mirrored(x: Tensor, margin: int) -> Tensor:
    return torch.nn.functional.pad(x, (margin, margin, margin, margin), mode="reflect")
