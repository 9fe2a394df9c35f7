"""Blur of the optics and of movement.

Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261; the constants are those of its reference code,
their lengths scaled from 224 pixels to the image's side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.corruptions.base import REFERENCE_SIDE, Corruption
from harness.corruptions.kernels import blur, disc, gaussian, streak
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class GaussianBlur(Corruption):
    """Gaussian blur."""

    GROUP = "blur"

    name: Literal["gaussian_blur"] = "gaussian_blur"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        return blur(x, gaussian((1, 2, 3, 4, 6)[severity - 1] * _scale(x)))


class DefocusBlur(Corruption):
    """Blur with a disc, as of a lens out of focus."""

    GROUP = "blur"

    name: Literal["defocus_blur"] = "defocus_blur"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        return blur(x, disc((3, 4, 6, 8, 10)[severity - 1] * _scale(x)))


class GlassBlur(Corruption):
    """Frosted glass: pixels displaced at random between two Gaussian blurs.

    The reference swaps neighbours one after the other. Here each pixel takes the value at its displacement, which scatters
    the pixels as much, needs one pass and allows fractions of a pixel.
    """

    GROUP = "blur"

    name: Literal["glass_blur"] = "glass_blur"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
        height, width = x.shape[1:]
        pixel = torch.tensor([2 / width, 2 / height])
        blurred = blur(x, gaussian(sigma * _scale(x)))
        for _ in range(rounds):
            displacement = (2 * torch.rand(height, width, 2, generator=generator) - 1) * reach * _scale(x) * pixel
            blurred = _sample(blurred, (_identity_grid(x) + displacement)[None])[0]
        return blur(blurred, gaussian(sigma * _scale(x)))


class MotionBlur(Corruption):
    """Blur along a line in a random direction within 45 degrees of the horizontal."""

    GROUP = "blur"

    name: Literal["motion_blur"] = "motion_blur"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
        angle = 90 * float(torch.rand((), generator=generator)) - 45
        return blur(x, streak(radius * _scale(x), sigma * _scale(x), angle))


class ZoomBlur(Corruption):
    """The mean over a range of magnifications, as of a camera that moves towards the object."""

    GROUP = "blur"

    name: Literal["zoom_blur"] = "zoom_blur"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        largest, step = ((0.11, 0.01), (0.16, 0.01), (0.21, 0.02), (0.26, 0.02), (0.31, 0.03))[severity - 1]
        factors = 1 + torch.arange(0, largest - 1e-6, step)
        grids = _identity_grid(x)[None] / factors[:, None, None, None]
        zoomed = _sample(x, grids)
        return (x + zoomed.sum(dim=0)) / (len(factors) + 1)


def _scale(x: Tensor) -> float:
    return min(x.shape[1:]) / REFERENCE_SIDE


def _identity_grid(x: Tensor) -> Tensor:
    """Returns the coordinates (H, W, 2) at which sampling gives the image itself."""
    return torch.nn.functional.affine_grid(torch.eye(2, 3)[None], [1, 3, *x.shape[1:]], align_corners=False)[0]


def _sample(x: Tensor, grids: Tensor) -> Tensor:
    """Returns (N, 3, H, W): the image (3, H, W) at N grids (N, H, W, 2) of coordinates in [-1,1], mirrored outside."""
    images = x[None].expand(len(grids), -1, -1, -1)
    return torch.nn.functional.grid_sample(images, grids, mode="bilinear", padding_mode="reflection", align_corners=False)
