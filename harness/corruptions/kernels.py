"""Blur kernels with sub-pixel lengths, so that a blur is the same at every resolution, and their application."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


SUBPIXELS = 8
"""Samples per pixel and axis of a shape in a kernel."""


def disc(radius: float) -> Tensor:
    """Returns a disc's kernel, odd and square, summing to 1; the weight of a pixel is the share of it that the disc covers.

    Args:
        radius: In pixels, at least 0.1.
    """
    reach = math.ceil(radius)
    samples = (torch.arange((2 * reach + 1) * SUBPIXELS) + 0.5) / SUBPIXELS - reach - 0.5
    inside = (samples[:, None] ** 2 + samples[None, :] ** 2 <= radius**2).float()
    kernel = torch.nn.functional.avg_pool2d(inside[None], SUBPIXELS)[0]
    return kernel / kernel.sum()


def streak(radius: float, sigma: float, angle: float) -> Tensor:
    """Returns the kernel of a one-sided motion streak, odd and square, summing to 1.

    Along the streak the weights are a Gaussian with its centre at the pixel itself, over twice the radius, as in ImageMagick's
    motion blur, which ImageNet-C uses.

    Args:
        radius: In pixels; the streak is twice as long.
        sigma: Standard deviation of the weights in pixels.
        angle: Direction in degrees.
    """
    steps = torch.arange(math.floor(2 * radius * SUBPIXELS) + 1) / SUBPIXELS
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    reach = math.ceil(2 * radius) + 1
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1)
    rows = reach + steps * math.sin(math.radians(angle))
    columns = reach + steps * math.cos(math.radians(angle))
    for row_share, row in ((1 - rows.frac(), rows.long()), (rows.frac(), rows.long() + 1)):
        for column_share, column in ((1 - columns.frac(), columns.long()), (columns.frac(), columns.long() + 1)):
            kernel.index_put_((row, column), weights * row_share * column_share, accumulate=True)
    return kernel / kernel.sum()


def gaussian(sigma: float) -> Tensor:
    """Returns a Gaussian's kernel over four standard deviations, odd and square, summing to 1.

    Args:
        sigma: Standard deviation in pixels, > 0.
    """
    steps = torch.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    return torch.outer(weights, weights) / weights.sum() ** 2


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Returns an image (C, H, W), each channel convolved with the kernel; the border is mirrored.

    Computed by Fourier transform, as the kernels are wide. Half of the kernel must be shorter than the image's side.
    """
    reach = kernel.shape[0] // 2
    padded = torch.nn.functional.pad(x, (reach, reach, reach, reach), mode="reflect")
    size = padded.shape[1:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=size)
    return torch.fft.irfft2(spectrum, s=size)[:, 2 * reach :, 2 * reach :]
