"""Random changes of a training image: one resampling for all of the geometry, then light."""

import math

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from harness.spec import Spec

WIDEST_ASPECT = 4 / 3
"""Largest ratio of a crop's sides, as in Szegedy et al. 2015, https://arxiv.org/abs/1409.4842, section 6."""


class Augment(Spec):
    """Random changes of a training image; drawn anew for each example and epoch, reproducible by seed."""

    flip: bool = True
    """Mirror half of the images left to right."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """Smallest area of a random crop, as a share of the image; its sides differ by 4:3 at most. 1 is no crop."""
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
    """Largest relative change of each colour channel, as another light would make."""

    def apply(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Returns a changed copy of an image; what lies outside of it is mirrored in.

        Args:
            image: float (3, H, W) in [0,1].
            rng: Decides the change. The same count of numbers is drawn whatever the fields are.

        Returns:
            float (3, H, W) in [0,1].
        """
        mirror, *geometry, brightness, contrast, saturation, red, green, blue = rng.uniform(-1, 1, size=15).tolist()
        if self.flip and mirror < 0:
            image = image.flip(-1)
        if self._moves():
            theta = torch.tensor(self._placement(geometry), dtype=image.dtype)
            grid = affine_grid(theta[None], [1, *image.shape], align_corners=False)
            image = grid_sample(image[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
        if self.brightness:
            image = image * (1 + self.brightness * brightness)
        if self.contrast:
            mean = image.mean()
            image = (image - mean) * (1 + self.contrast * contrast) + mean
        if self.saturation:
            grey = image.mean(0, keepdim=True)
            image = (image - grey) * (1 + self.saturation * saturation) + grey
        if self.white_balance:
            image = image * (1 + self.white_balance * torch.tensor([red, green, blue]).view(3, 1, 1))
        return image.clamp(0, 1)

    def _moves(self) -> bool:
        return self.crop < 1 or any((self.rotation, self.translation, self.scale))

    def _placement(self, draws: list[float]) -> list[list[float]]:
        """Returns the affine map (2, 3) from places in the result to places in the image, both in [-1,1].

        Args:
            draws: Eight numbers in [-1,1]: area, aspect and centre (2) of the crop, angle, shift (2), size.
        """
        area, aspect, centre_x, centre_y, angle, shift_x, shift_y, size = draws
        width, height = self._crop_sides(area, aspect)
        turn, zoom = math.radians(self.rotation * angle), 1 + self.scale * size
        cosine, sine = math.cos(turn) / zoom, math.sin(turn) / zoom
        return [
            [cosine * width, -sine * height, (1 - width) * centre_x + 2 * self.translation * shift_x],
            [sine * width, cosine * height, (1 - height) * centre_y + 2 * self.translation * shift_y],
        ]

    def _crop_sides(self, area: float, aspect: float) -> tuple[float, float]:
        """Returns width and height of the crop as shares of the image's."""
        if self.crop == 1:
            return 1.0, 1.0
        share = self.crop + (1 - self.crop) * (area + 1) / 2
        stretch = min(WIDEST_ASPECT ** abs(aspect), 1 / share) ** (0.5 if aspect > 0 else -0.5)
        return math.sqrt(share) * stretch, math.sqrt(share) / stretch
