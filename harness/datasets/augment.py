"""Random changes of a training image: first one resampling for its whole geometry, then brightness and colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from harness.spec import LATER, Spec
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


WIDEST_ASPECT = 4 / 3
"""Largest ratio of a crop's sides, as in Szegedy et al. 2015, https://arxiv.org/abs/1409.4842, section 6."""


class Augment(Spec):
    """Random changes of a training image; drawn for each example and epoch, reproducible by seed."""

    flip: bool = True
    """Mirror half of the images left to right."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """Smallest area of a random crop, as a share of the image; its sides differ by 4:3 at most. 1 is no crop."""
    detail: float = Field(default=1.0, ge=1, le=8, json_schema_extra=LATER)
    """Read a photograph up to this many times larger than the resolution before it is cropped, so that the crop keeps the
    detail of the file. 1 crops the resized image, and enlarges the crop."""
    rotation: float = Field(default=10.0, ge=0, le=180)
    """Largest rotation in degrees."""
    translation: float = Field(default=0.05, ge=0, le=0.5)
    """Largest shift as a share of the side length."""
    scale: float = Field(default=0.1, ge=0, lt=1)
    """Largest relative change of size."""
    brightness: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of brightness."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of contrast."""
    saturation: float = Field(default=0.0, ge=0, le=1)
    """Largest relative change of saturation, the distance of each pixel from its grey."""
    white_balance: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of each colour channel, as under light of another colour."""

    @property
    def moves(self) -> bool:
        """Whether it changes an image's geometry beside mirroring it."""
        return self.crop < 1 or any((self.rotation, self.translation, self.scale))

    def draw(self, rng: np.random.Generator) -> DrawnAugmentation:
        """Returns one random change. All fields draw the same number of values."""
        return DrawnAugmentation(self, rng.uniform(-1, 1, size=15).tolist())

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Returns a changed copy of an image (3, H, W) in [0,1], of the same size; see `DrawnAugmentation.apply`."""
        return self.draw(rng).apply(image, image.shape[1:])


@dataclass(frozen=True)
class DrawnAugmentation:
    """The change of one image, with its random numbers."""

    augment: Augment
    draws: list[float]
    """Fifteen numbers in [-1,1]: mirror, area, aspect and centre (2) of the crop, angle, shift (2), size, light (6)."""

    def source_side(self, resolution: int) -> int:
        """Returns the side length of the whole image at which its crop has `resolution` pixels, as far as allowed."""
        (width_x, width_y, _), (height_x, height_y, _) = self._placement()
        share = max(math.hypot(width_x, height_x), math.hypot(width_y, height_y))
        return round(resolution * min(max(1 / share, 1.0), self.augment.detail))

    def apply(self, image: Tensor, size: Sequence[int]) -> Tensor:
        """Returns a changed copy of an image; places outside of the image get its mirrored pixels.

        Args:
            image: float (3, H', W') in [0,1].
            size: Height H and width W of the result; the image's own if its geometry is not changed.

        Returns:
            float (3, H, W) in [0,1].
        """
        augment = self.augment
        mirror, brightness, contrast, saturation, *channels = self.draws[0], *self.draws[9:]
        if augment.flip and mirror < 0:
            image = image.flip(-1)
        if augment.moves:
            theta = torch.tensor(self._placement(), dtype=image.dtype)
            grid = torch.nn.functional.affine_grid(theta[None], [1, len(image), *size], align_corners=False)
            image = torch.nn.functional.grid_sample(
                image[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False
            )[0]
        if augment.brightness:
            image = image * (1 + augment.brightness * brightness)
        if augment.contrast:
            mean = image.mean()
            image = (image - mean) * (1 + augment.contrast * contrast) + mean
        if augment.saturation:
            grey = image.mean(0, keepdim=True)
            image = (image - grey) * (1 + augment.saturation * saturation) + grey
        if augment.white_balance:
            image = image * (1 + augment.white_balance * torch.tensor(channels).view(3, 1, 1))
        return image.clamp(0, 1)

    def _placement(self) -> list[list[float]]:
        """Returns the affine map (2, 3) from coordinates in the result to coordinates in the image, both in [-1,1]."""
        augment = self.augment
        area, aspect, centre_x, centre_y, angle, shift_x, shift_y, size = self.draws[1:9]
        width, height = self._crop_sides(area, aspect)
        turn, zoom = math.radians(augment.rotation * angle), 1 + augment.scale * size
        cosine, sine = math.cos(turn) / zoom, math.sin(turn) / zoom
        return [
            [cosine * width, -sine * height, (1 - width) * centre_x + 2 * augment.translation * shift_x],
            [sine * width, cosine * height, (1 - height) * centre_y + 2 * augment.translation * shift_y],
        ]

    def _crop_sides(self, area: float, aspect: float) -> tuple[float, float]:
        """Returns width and height of the crop as shares of the image's."""
        crop = self.augment.crop
        if crop == 1:
            return 1.0, 1.0
        share = crop + (1 - crop) * (area + 1) / 2
        stretch = min(WIDEST_ASPECT ** abs(aspect), 1 / share) ** (0.5 if aspect > 0 else -0.5)
        return math.sqrt(share) * stretch, math.sqrt(share) / stretch
