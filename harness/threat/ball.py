"""The images that an attacker may show: norms, distances, and projections onto a ball around an original."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from harness.system.lazy import torch
from harness.system.memory import cached_parts

if TYPE_CHECKING:
    from torch import Tensor


class Norm(StrEnum):
    """The norm that measures a perturbation over all pixels and channels of one image."""

    LINF = "Linf"
    L2 = "L2"
    L1 = "L1"

    @property
    def order(self) -> float:
        """The p of the Lp norm."""
        return {Norm.LINF: math.inf, Norm.L2: 2.0, Norm.L1: 1.0}[self]


TOLERANCE = 1e-6
"""How far outside ball and bounds a float32 image may lie and still count as inside: rounding of `x + delta`."""
L1_ROUNDING = 2e-7
"""Slack of the L1 projection for each square root of a pixel value: several times the float32 rounding of one sum."""


class Ball:
    """The images that lie within `eps` of an original in `norm`, and inside [0,1].

    Images are float tensors (N, C, H, W) in [0,1]; `eps` is in the same units.
    """

    norm: Norm
    """The norm of the perturbation."""
    eps: Fraction
    """The radius."""

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns the size of each perturbation in this norm, shape (N,).

        Args:
            x_adv: Perturbed images (N, C, H, W).
            x: The original images, same shape.
        """
        if self.norm is Norm.LINF:
            return largest_change(x_adv, x)
        delta = (x_adv - x).flatten(1)
        return torch.linalg.vector_norm(delta, ord=2 if self.norm is Norm.L2 else 1, dim=1, dtype=torch.float64).to(delta.dtype)

    def violation(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns how far each image lies outside the ball or outside [0,1], shape (N,); 0 is inside.

        A non-finite pixel is a violation of infinity.
        """
        return self.violation_at(self.distance(x_adv, x), x_adv)

    def violation_at(self, distance: Tensor, x_adv: Tensor) -> Tensor:
        """Returns the `violation` (N,) of images whose distance (N,) from their originals is known."""
        outside_ball = (distance - float(self.eps)).clamp(min=0)
        low, high = _extremes(part for (part,) in cached_parts(x_adv))
        worst = torch.maximum(outside_ball, torch.maximum(-low, high - 1).clamp(min=0))
        return torch.where((high - low).isfinite(), worst, torch.inf)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Returns the images moved into the ball around `x` and into [0,1].

        For Linf this is the Euclidean projection onto the intersection. For L2 and L1 the perturbation is first
        projected onto the ball, then the image is clipped, which can only shorten it since `x` lies in [0,1].
        A non-finite pixel is replaced by the original one. In L1 the rounding of `x + delta` adds up over the pixels, so
        the projection aims inside the ball by that much.

        Source: Linf and L2: Madry et al. 2018, https://arxiv.org/abs/1706.06083, section 2.1.
            L1: Duchi et al. 2008, "Efficient projections onto the l1-ball", figure 1.
        """
        delta = torch.where(x_adv.isfinite(), x_adv - x, 0.0)
        eps = float(self.eps)
        if self.norm is Norm.LINF:
            delta = delta.clamp(-eps, eps)
        elif self.norm is Norm.L2:
            norms = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp(min=torch.finfo(delta.dtype).tiny)
            delta = delta * (eps / norms).clamp(max=1).view(-1, 1, 1, 1)
        else:
            slack = L1_ROUNDING * delta[0].numel() ** 0.5 if len(delta) else 0.0
            delta = _project_onto_l1_ball(delta.flatten(1), max(eps - slack, 0.0)).view_as(delta)
        return (x + delta).clamp(0, 1)


def largest_change(x_adv: Tensor, x: Tensor) -> Tensor:
    """Returns the largest change (N,) of a number in each row of (N, ...); NaN where one is in it."""
    low, high = _extremes(changed - original for changed, original in cached_parts(x_adv, x))
    return torch.maximum(high, -low)


def _extremes(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the smallest and the largest value (N,) of each row of all parts (n, ...); NaN where one is in it."""
    lows, highs = [], []
    for part in parts:
        of_each = tuple(range(1, part.dim()))
        lows.append(part.amin(of_each))
        highs.append(part.amax(of_each))
    return torch.cat(lows), torch.cat(highs)


def _project_onto_l1_ball(delta: Tensor, eps: float) -> Tensor:
    """Projects rows (N, D) onto the L1 ball of radius `eps`: soft-thresholding at the level that fits."""
    magnitudes = delta.abs()
    descending = magnitudes.sort(dim=1, descending=True).values
    excess = descending.cumsum(dim=1) - eps
    ranks = torch.arange(1, delta.shape[1] + 1, device=delta.device, dtype=delta.dtype)
    active = (descending * ranks > excess).sum(dim=1, keepdim=True).clamp(min=1)
    threshold = (excess.gather(1, active - 1) / active).clamp(min=0)
    return delta.sign() * (magnitudes - threshold).clamp(min=0)
