"""The rule of agreement on planted logits."""

import numpy as np

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
    assert Comparison(reference, found).disagreements(RULE) == (
        "99th percentile of the relative logit difference 0.5, above 0.001",
    )


def with_first(value: float) -> Comparison:
    found = logits((1, 2, 3), (3, 2, 1))
    found[0, 0] = value
    return Comparison(logits((1, 2, 3), (3, 2, 1)), found)


def test_nan_is_no_prediction_and_no_agreement() -> None:
    comparison = with_first(np.nan)
    assert comparison.predicted.tolist() == [-1, 0]
    assert (comparison.agreement, comparison.max_difference, len(comparison.flip_margins)) == (0.5, 0.0, 0)
    assert comparison.disagreements(RULE) == ("1 example with a logit that is NaN",)


def test_largest_logit_that_is_infinite_is_no_prediction_and_an_infinite_difference() -> None:
    comparison = with_first(np.inf)
    assert comparison.predicted.tolist() == [-1, 0]
    assert (comparison.agreement, comparison.max_difference, len(comparison.flip_margins)) == (0.5, np.inf, 0)
    assert comparison.disagreements(RULE)[0] == "1 example with a logit that is infinite in one runtime alone"
    alone = Comparison(None, comparison.found)
    assert alone.disagreements(RULE) == ("1 example with a largest logit that is infinite",)


def test_class_switched_off_in_both_agrees_and_in_one_alone_does_not() -> None:
    off = logits((-np.inf, 2, 3), (-np.inf, 2, 1))
    assert Comparison(off, off.copy()).disagreements(RULE) == ()
    assert Comparison(off, off.copy()).agreement == 1
    assert Comparison(None, off).disagreements(RULE) == ()
    assert "2 examples with a logit that is infinite in one runtime alone" in Comparison(
        logits((-9, 2, 3), (-9, 2, 1)), off
    ).disagreements(RULE)


def test_a_single_infinity_among_many_examples_breaks_the_rule() -> None:
    reference = np.tile(np.array([1, 0, -5], np.float32), (1000, 1))
    found = reference.copy()
    found[7, 2] = -np.inf
    assert Comparison(reference, found).disagreements(RULE) == ("1 example with a logit that is infinite in one runtime alone",)


def test_large_logits_agree_within_the_rounding_of_their_size() -> None:
    reference = logits((5600, -300, 20), (4000, 4200, 10))
    assert Comparison(reference, reference + np.float32(0.02)).disagreements(RULE) == ()
    assert Comparison(reference, reference * np.float32(1.0102)).disagreements(RULE) == (
        "99th percentile of the relative logit difference 0.0102, above 0.001",
    )


def test_logits_match_or_not_whether_or_not_they_are_expected() -> None:
    reference, unexpected = logits((1, 2, 3), (3, 2, 1)), Rule(expects_reference=False)
    assert Comparison(reference, reference.copy()).matches(unexpected)
    assert Comparison(reference, reference[::-1].copy()).matches(unexpected) is False
    assert with_first(np.nan).matches(unexpected) is False
    assert Comparison(None, reference).matches(unexpected) is None
