"""Scores of a detection: against the manifest, and on the clean control, where nothing is poisoned."""

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.poisoning.detectors.base import Detection
from harness.spec import Spec


class DetectorScore(Spec):
    """Scores of a detection against the truth. A rate without a denominator is None; in the clean control nothing is poisoned."""

    examples: int
    """Number of examples."""
    poisoned: int
    """How many of them are poisoned."""
    suspected: int
    """How many are suspicious by the detector's own rule."""
    threshold: float | None
    """See `Detection.threshold`."""
    precision: float | None
    """Share of the suspicious examples that are poisoned."""
    recall: float | None
    """Share of the poisoned examples that are suspicious."""
    false_alarm_rate: float | None
    """Share of the clean examples that are suspicious."""
    auc: float | None
    """Area under the ROC curve of the scores."""
    roc: tuple[tuple[float, float], ...]
    """The ROC curve's points: false positive rate and true positive rate, rising; empty if the AUC is None."""


def score_detector(detection: Detection, is_poisoned: NDArray[np.bool_]) -> DetectorScore:
    """Returns the scores of a detection.

    Args:
        detection: The result of the detector on N examples.
        is_poisoned: The truth (N,): `Manifest.is_poisoned`, or all False in the clean control.

    Raises:
        HarnessError: if the two differ in length, or a score is not finite.
    """
    from sklearn.metrics import auc, roc_curve

    if detection.scores.shape != is_poisoned.shape:
        raise HarnessError(f"detector: expected {len(is_poisoned)} scores, got {len(detection.scores)}")
    if not np.isfinite(detection.scores).all():
        raise HarnessError(f"detector: expected finite scores, got {int((~np.isfinite(detection.scores)).sum())} that are not")
    suspicious, poisoned = detection.suspicious, int(is_poisoned.sum())
    points: tuple[tuple[float, float], ...] = ()
    area = None
    if 0 < poisoned < len(is_poisoned):
        false_positive_rate, true_positive_rate, _ = roc_curve(is_poisoned, detection.scores)
        points = tuple(zip(false_positive_rate.tolist(), true_positive_rate.tolist(), strict=True))
        area = float(auc(false_positive_rate, true_positive_rate))
    return DetectorScore(
        examples=len(is_poisoned),
        poisoned=poisoned,
        suspected=int(suspicious.sum()),
        threshold=detection.threshold,
        precision=_share(is_poisoned[suspicious]),
        recall=_share(suspicious[is_poisoned]),
        false_alarm_rate=_share(suspicious[~is_poisoned]),
        auc=area,
        roc=points,
    )


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if flags.size else None
