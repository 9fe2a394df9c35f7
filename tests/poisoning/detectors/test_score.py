import numpy as np
import pytest

from harness.errors import HarnessError
from harness.poisoning.detectors.base import Detection
from harness.poisoning.detectors.score import score_detector

SCORES = np.array([0.1, 0.9, 0.2, 0.8, 0.3])
POISONED = np.array([False, True, False, False, True])


def test_scores_against_the_truth():
    score = score_detector(Detection(SCORES, SCORES >= 0.5, 0.5), POISONED)
    assert (score.examples, score.poisoned, score.suspected, score.threshold) == (5, 2, 2, 0.5)
    assert score.precision == score.recall == 0.5
    assert score.false_alarm_rate == pytest.approx(1 / 3)
    assert score.auc == pytest.approx(5 / 6)
    assert score.roc[0] == (0.0, 0.0)
    assert score.roc[-1] == (1.0, 1.0)


def test_control_arm_counts_false_alarms_alone():
    score = score_detector(Detection(SCORES, SCORES >= 0.5, None), np.zeros(5, dtype=bool))
    assert score.false_alarm_rate == 0.4
    assert score.precision == 0
    assert score.recall is None
    assert score.auc is None
    assert score.roc == ()


def test_no_suspicion_has_no_precision():
    score = score_detector(Detection(SCORES, SCORES >= 2, None), POISONED)
    assert score.precision is None
    assert score.recall == score.false_alarm_rate == 0


def test_score_survives_json():
    score = score_detector(Detection(SCORES, SCORES >= 0.5, 0.5), POISONED)
    assert type(score).model_validate_json(score.model_dump_json()) == score


def test_scores_that_do_not_fit_are_refused():
    with pytest.raises(HarnessError, match="expected 2 scores, got 5"):
        score_detector(Detection(SCORES, SCORES > 0, None), POISONED[:2])
    with pytest.raises(HarnessError, match="expected finite scores, got 5 that are not"):
        score_detector(Detection(SCORES * np.nan, SCORES > 0, None), POISONED)
