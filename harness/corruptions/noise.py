"""Corruptions of the sensor.

Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261; the constants are those of its reference code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.corruptions.base import Corruption
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class GaussianNoise(Corruption):
    """Additive Gaussian noise, as in low light."""

    GROUP = "noise"

    name: Literal["gaussian_noise"] = "gaussian_noise"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        sigma = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
        return x + sigma * torch.randn(x.shape, generator=generator)


class ShotNoise(Corruption):
    """Poisson noise of a small number of photons."""

    GROUP = "noise"

    name: Literal["shot_noise"] = "shot_noise"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        photons = (60, 25, 12, 5, 3)[severity - 1]
        return torch.poisson(x * photons, generator=generator) / photons


class ImpulseNoise(Corruption):
    """Values set to 0 or to 1 at random, as by bit errors: salt and pepper noise in colour."""

    GROUP = "noise"

    name: Literal["impulse_noise"] = "impulse_noise"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
        draw = torch.rand(x.shape, generator=generator)
        salt = torch.rand(x.shape, generator=generator) < 0.5
        return torch.where(draw < share, salt.to(x.dtype), x)


class SpeckleNoise(Corruption):
    """Noise that grows with the brightness of the pixel."""

    GROUP = "noise"

    name: Literal["speckle_noise"] = "speckle_noise"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        sigma = (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1]
        return x + sigma * x * torch.randn(x.shape, generator=generator)
