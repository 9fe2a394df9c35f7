"""Norms as ART writes them, and where its PGD in L1 is led."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.system.lazy import torch
from harness.threat import Norm

if TYPE_CHECKING:
    from torch import Tensor

ORDERS = {Norm.LINF: np.inf, Norm.L2: 2, Norm.L1: 1}


def best_l1_point(gradient: Tensor, x: Tensor, *, eps: float) -> Tensor:
    """Returns the points (N, C, H, W) of the L1 balls around images, inside [0,1], at which a linear function is largest.

    Values move as far as [0,1] lets them, those with the largest gradients first, until the budget is used up.

    Args:
        gradient: Of the function, (N, C, H, W); entries that are not finite count as 0.
        x: The images (N, C, H, W) in [0,1].
        eps: Radius of the balls.

    Source: the linear step of Frank and Wolfe 1956, "An algorithm for quadratic programming", over the ball and the box.
    """
    slopes, values = torch.where(gradient.isfinite(), gradient, 0.0).flatten(1), x.flatten(1)
    room = torch.where(slopes > 0, 1 - values, values) * (slopes != 0)
    order = slopes.abs().argsort(dim=1, descending=True)
    wanted = room.gather(1, order)
    left = (eps - (wanted.cumsum(dim=1) - wanted)).clamp(min=0)
    change = torch.zeros_like(room).scatter(1, order, torch.minimum(wanted, left)) * slopes.sign()
    return (values + change).view(x.shape)
