"""The rule of agreement on planted logits."""

import numpy as np
import pytest

from harness.deployment.agreement import Comparison, Rule

RULE = Rule(margin=1e-3, quantile_bound=1e-3)


def logits(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_equal_logits_agree() -> None:
    same = logits((1, 2, 3), (3, 2, 1))
    comparison = Comparison(same, same.copy())
    assert comparison.disagreements(RULE) == ()
    assert (comparison.agreement, comparison.max_difference, comparison.p99_difference) == (1.0, 0.0, 0.0)


def test_flip_between_nearly_equal_logits_is_excused() -> None:
    comparison = Comparison(logits((0, 1, 1.0005)), logits((0, 1.0003, 1.0002)))
    assert (len(comparison.flip_margins), comparison.flips_outside(RULE.margin)) == (1, 0)
    assert comparison.disagreements(RULE) == ()
    assert comparison.agreement == 0.0


def test_flip_is_measured_against_the_class_predicted_here() -> None:
    comparison = Comparison(logits((5, 4.9999, 0)), logits((0, 0, 6)))
    np.testing.assert_allclose(comparison.flip_margins, [5.0])
    assert "1 flip outside the margin of 0.001" in comparison.disagreements(RULE)


def test_few_outliers_pass_and_many_do_not() -> None:
    reference = np.zeros((1000, 3), dtype=np.float32)
    found = reference.copy()
    found[:5, 0] = 0.5
    reference[:, 0] = found[:, 0] = found[:, 0] + 1
    found[:5, 0] += 0.5
    assert Comparison(reference, found).disagreements(RULE) == ()
    found[:20, 0] += 0.5
    assert Comparison(reference, found).disagreements(RULE) == ("99th percentile of the logit difference 0.5, above 0.001",)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logit_that_is_not_finite_is_no_prediction_and_no_agreement(value: float) -> None:
    found = logits((1, 2, 3), (3, 2, 1))
    found[0, 0] = value
    comparison = Comparison(logits((1, 2, 3), (3, 2, 1)), found)
    assert comparison.predicted.tolist() == [-1, 0]
    assert (comparison.agreement, comparison.max_difference, len(comparison.flip_margins)) == (0.5, 0.0, 0)
    assert comparison.disagreements(RULE) == ("1 example with a logit that is not finite",)
