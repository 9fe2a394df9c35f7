"""What a poison changed of one image, measured; a change that it had no right to make is refused."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from harness.errors import HarnessError

TOLERANCE = 1e-6
"""Slack of budgets for rounding in float32."""


class Change(NamedTuple):
    """What a poison did to one image."""

    changed_pixels: int
    """Number of pixels in which any channel differs."""
    largest_change: float
    """Largest change of a pixel value (Linf)."""
    sha256: str
    """Hash of the poisoned pixels."""


def measure(poisoned: Tensor, clean: Tensor, *, mask: Tensor | None, eps: float, where: str) -> Change:
    """Measures and judges one poisoned image.

    Args:
        poisoned: Image (3, R, R).
        clean: The image before, float32 (3, R, R) in [0,1].
        mask: Pixels (R, R) that may change freely, or None for none: where the trigger lies. A trigger that was
            written along the wrong axis falls outside.
        eps: Largest change (Linf) of all other pixels.
        where: Named first in errors.

    Raises:
        HarnessError: if shape, type, value range, or the place or size of the change is not what was allowed.
    """
    if poisoned.shape != clean.shape or poisoned.dtype != clean.dtype:
        raise HarnessError(
            f"{where}: expected {clean.dtype} of shape {tuple(clean.shape)}, got {poisoned.dtype} {tuple(poisoned.shape)}"
        )
    if not (poisoned.isfinite().all() and poisoned.min() >= 0 and poisoned.max() <= 1):
        raise HarnessError(f"{where}: expected pixels in [0,1], got {float(poisoned.min())} to {float(poisoned.max())}")
    delta = (poisoned - clean).abs().amax(dim=0)
    outside = delta if mask is None else torch.where(mask, 0.0, delta)
    if float(outside.max()) > eps + TOLERANCE:
        count = int((outside > eps + TOLERANCE).sum())
        raise HarnessError(
            f"{where}: expected changes of at most {eps:g} outside the trigger, got {float(outside.max()):g} in {count} pixels"
        )
    digest = hashlib.sha256(poisoned.contiguous().numpy().tobytes()).hexdigest()
    return Change(int((delta > 0).sum()), float(delta.max()), digest)
