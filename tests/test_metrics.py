import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from harness import metrics

CLASSES = 4


def random_case(seed: int, examples: int = 60, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    logits = rng.normal(size=(examples, classes)).astype(np.float32)
    logits[np.arange(examples), labels] += 1
    return logits, labels


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_scores_equal_those_of_scikit_learn(seed: int, examples: int) -> None:
    logits, labels = random_case(seed, examples)
    predicted = metrics.predictions(logits)
    confusion = metrics.confusion_matrix(predicted, labels, CLASSES)
    report = metrics.class_report(confusion)
    expected = reference.precision_recall_fscore_support(labels, predicted, labels=np.arange(CLASSES), zero_division=0)
    macro = reference.precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)

    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels, predicted, labels=np.arange(CLASSES)))
    for found, wanted in zip(report, expected, strict=True):
        np.testing.assert_allclose(np.nan_to_num(found), wanted)
    np.testing.assert_allclose(metrics.macro_scores(report), macro[:3])
    assert metrics.accuracy(predicted, labels) == pytest.approx(reference.accuracy_score(labels, predicted))


@given(st.integers(0, 2**32 - 1))
def test_roc_auc_equals_scikit_learns_one_vs_rest(seed: int) -> None:
    logits, labels = random_case(seed)
    labels[:CLASSES] = np.arange(CLASSES)
    curves = metrics.roc_curves(logits, labels)
    expected = reference.roc_auc_score(labels, metrics.softmax(logits), multi_class="ovr", average="macro")
    assert metrics.roc_auc_macro(curves) == pytest.approx(expected)
    assert [curve.class_index for curve in curves] == list(range(CLASSES))


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_roc_curves_equal_scikit_learns_point_by_point(seed: int, examples: int) -> None:
    logits, labels = random_case(seed, examples)
    logits = logits.round(0)  # many equal scores
    for curve in metrics.roc_curves(logits, labels):
        scores = metrics.softmax(logits)[:, curve.class_index]
        expected = reference.roc_curve(labels == curve.class_index, scores)
        for found, wanted in zip(curve[1:4], expected, strict=True):
            np.testing.assert_allclose(found, wanted)


def test_a_class_without_labels_has_no_roc_curve_and_does_not_count_in_the_mean() -> None:
    logits, labels = random_case(0)
    labels[labels == 2] = 1
    curves = metrics.roc_curves(logits, labels)
    assert [curve.class_index for curve in curves] == [0, 1, 3]
    assert metrics.roc_auc_macro(curves) == pytest.approx(np.mean([curve.auc for curve in curves]))


@pytest.mark.filterwarnings("ignore:Only one class is present")
@pytest.mark.parametrize("absent", [[0], [3], [1, 2]])
def test_roc_auc_leaves_out_the_classes_that_scikit_learn_calls_nan(absent: list[int]) -> None:
    logits, labels = random_case(7)
    kept = ~np.isin(labels, absent)
    each = reference.roc_auc_score(
        labels[kept], metrics.softmax(logits[kept]), multi_class="ovr", average=None, labels=np.arange(CLASSES)
    )
    assert np.flatnonzero(np.isnan(each)).tolist() == absent
    assert metrics.roc_auc_macro(metrics.roc_curves(logits[kept], labels[kept])) == pytest.approx(np.nanmean(each))


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 3), np.float32), np.zeros(0, np.int64)),
        (np.eye(3, dtype=np.float32), np.array([1, 1, 1])),
        (np.full((3, 3), np.nan, np.float32), np.array([0, 1, 2])),
    ],
    ids=["no example", "one class", "not finite"],
)
def test_roc_auc_is_nan_where_there_is_no_curve(logits: np.ndarray, labels: np.ndarray) -> None:
    assert metrics.roc_curves(logits, labels) == ()
    assert math.isnan(metrics.roc_auc_macro(()))


def test_softmax_survives_huge_logits() -> None:
    found = metrics.softmax(np.array([[1e4, 0, -1e4], [3.0, 3.0, 3.0]], np.float32))
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])


def test_confusion_matrix_has_a_row_for_a_class_that_never_occurs() -> None:
    found = metrics.confusion_matrix(np.array([0, 1]), np.array([0, 0]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert np.isnan(metrics.class_report(found).recall).tolist() == [False, False, True]


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_interval_equals_scipys_and_holds_the_rate(case: tuple[int, int], confidence: float) -> None:
    successes, n = case
    low, high = metrics.wilson_interval(successes, n, confidence)
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


def test_wilson_interval_of_no_trial_is_nan() -> None:
    assert all(math.isnan(end) for end in metrics.wilson_interval(0, 0))


@pytest.mark.parametrize("arguments", [(3, 2), (-1, 2), (1, 2, 1.0), (1, 2, 0.0)])
def test_wilson_interval_refuses_impossible_counts(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        metrics.wilson_interval(*arguments)


def test_success_and_robustness_ignore_examples_that_were_wrong_from_the_start() -> None:
    clean_correct = np.array([True, True, True, True, False])
    is_adversarial = np.array([True, False, False, False, False])
    assert metrics.robust_accuracy(clean_correct, is_adversarial) == pytest.approx(3 / 5)
    assert metrics.attack_success_rate(clean_correct, is_adversarial) == pytest.approx(1 / 4)


def test_rates_over_no_example_are_missing_not_zero() -> None:
    nothing = np.zeros(0, bool)
    assert math.isnan(metrics.robust_accuracy(nothing, nothing))
    assert math.isnan(metrics.accuracy(np.zeros(0, int), np.zeros(0, int)))
    assert math.isnan(metrics.attack_success_rate(np.array([False, False]), np.array([False, False])))
    assert all(math.isnan(score) for score in metrics.macro_scores(metrics.class_report(np.zeros((3, 3), int))))
