"""Checks of one row for NaN and infinity, in the network's logits and in what an attack returned."""

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.checks.base import LEAST_SHARE, Reason, Row, invalid, percent, share_of
from harness.records import Verdict

NONFINITE_IMAGES_INVALID = 0.5
"""Share of the returned images that are not finite."""


def nonfinite_logits(row: Row) -> Reason | None:
    """Predictions from NaN are none: the largest of some logits with a NaN is the NaN, so that it decides the class.

    Classes that are -inf for every image, clean or not, are switched off: nothing is predicted from them.

    Source: NumPy, https://numpy.org/doc/stable/reference/generated/numpy.max.html: NaN values are propagated.
    """
    logits = row.condition.logits
    if not (isnan := np.isnan(logits).any(axis=1)).any():
        nonfinite = ~(np.isfinite(logits) | _switched_off(row)).all(axis=1) | np.isneginf(logits).all(axis=1)
        return invalid(f"logits of {int(nonfinite.sum())} examples are not finite") if nonfinite.any() else None
    return invalid(f"logits of {int(isnan.sum())} examples are NaN")


def _switched_off(row: Row) -> NDArray[np.bool_]:
    """Returns which classes (K,) are -inf for every image."""
    clean, found = (np.isneginf(logits).all(axis=0) for logits in (row.clean_logits, row.condition.logits))
    return np.asarray(found & clean if clean.shape == found.shape else found)


def nonfinite_images(row: Row) -> Reason | None:
    """An attack that returns NaN has attacked nothing: the frame judges the original pixels in their place.

    Where most of what it returned is such, and more than a few examples rest on it, the number is that of clean images.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.1: adversarials must be valid.
    """
    part = share_of(row.evidence.nonfinite_images, row.evidence.returned)
    if not part:
        return None
    matters = part >= NONFINITE_IMAGES_INVALID and part * row.active > LEAST_SHARE * len(row.labels)
    what = f"the attack returned NaN or infinite pixels in {percent(part)} of the images that were not adversarial before"
    return Reason(Verdict.INVALID if matters else Verdict.SUSPECT, what)


NONFINITE = (nonfinite_logits, nonfinite_images)
"""All checks of this file."""
