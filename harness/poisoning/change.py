"""How much a poison changed one image; a change that is not allowed is an error."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import HarnessError
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


TOLERANCE = 1e-6
"""How far rounding in float32 may exceed a budget."""


class Change(NamedTuple):
    """The measured change of one image."""

    changed_pixels: int
    """Number of pixels in which any channel differs."""
    largest_change: float
    """Largest change of a pixel value (Linf)."""
    sha256: str
    """Hash of the poisoned pixels."""


def measure(poisoned: Tensor, clean: Tensor, *, mask: Tensor | None, eps: float, where: str) -> Change:
    """Returns the measured change of one poisoned image, if it is allowed.

    Args:
        poisoned: Image (3, R, R).
        clean: The image before, float32 (3, R, R) in [0,1].
        mask: Pixels (R, R) of the trigger, which may change freely, or None for no trigger. A trigger that a library
            writes along the wrong axis is outside of the mask.
        eps: Largest change (Linf) of all other pixels.
        where: Named first in errors.

    Raises:
        HarnessError: if shape, type, value range, or the place or size of the change is not allowed.
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
