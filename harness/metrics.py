"""Metrics of classification and robustness: pure functions of arrays.

They are defined as in scikit-learn, and the tests hold them against it; scikit-learn itself checks its arguments anew in
every call, which for a grid of cells x classes takes many times as long as the counting.

N is the number of examples, K the number of classes; labels and predictions are class indices in 0..K-1. A number
that is not defined, for example an accuracy over no example, is NaN, never 0.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.system.lazy import stats
from harness.system.remembered import remembered

Floats = NDArray[np.floating]
Indices = NDArray[np.integer]
Flags = NDArray[np.bool_]


class Interval(NamedTuple):
    """A confidence interval of a rate."""

    low: float
    high: float


class ClassReport(NamedTuple):
    """Scores of each class, arrays (K,); NaN where a class has neither labels nor predictions."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Indices


class MacroScores(NamedTuple):
    """Scores averaged over classes, each class counting alike."""

    precision: float
    recall: float
    f1: float


class RocCurve(NamedTuple):
    """One class against the rest: arrays of the same length, thresholds falling."""

    class_index: int
    false_positive_rate: Floats
    true_positive_rate: Floats
    thresholds: Floats
    auc: float


def predictions(logits: Floats) -> Indices:
    """Returns the class with the largest logit of each example, (N, K) -> (N,)."""
    return np.asarray(logits).argmax(axis=1)


def logit_differences(found: Floats, reference: Floats) -> Floats:
    """Returns how far logits lie apart, (N, K) and (N, K) -> (N, K).

    Two infinities of one sign are equal, as of classes that are switched off. An infinity and another number, and a NaN
    and whatever it is compared with, lie infinitely far apart.

    >>> logit_differences(np.array([[1.0, -np.inf, np.nan]]), np.array([[1.5, -np.inf, 2.0]]))
    array([[0.5, 0. , inf]])
    """
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - reference)
    return np.where(found == reference, 0.0, np.where(np.isnan(difference), np.inf, difference))


def largest_logit(logits: Floats) -> float:
    """Returns the largest absolute value of logits (N, K); those that are not finite do not count, and of none it is 0."""
    return float(np.abs(logits, where=np.isfinite(logits), out=np.zeros(logits.shape)).max(initial=0.0))


def softmax(logits: Floats) -> Floats:
    """Returns class probabilities in double precision, (N, K) -> (N, K)."""
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def accuracy(predicted: Indices, labels: Indices) -> float:
    """Returns the share of correct predictions, both (N,); NaN for N = 0.

    >>> accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]))
    0.75
    """
    return share(predicted == labels)


def share(flags: Flags) -> float:
    """Returns the share of true flags, (N,); NaN for N = 0."""
    return float(flags.mean()) if flags.size else float("nan")


def share_by_class(flags: Flags, labels: Indices, classes: int) -> Floats:
    """Returns the share of true flags (N,) among the examples of each class, (K,); NaN where a class has none.

    >>> share_by_class(np.array([True, False, True]), np.array([0, 0, 2]), 3)
    array([0.5, nan, 1. ])
    """
    found, support = np.bincount(labels[flags], minlength=classes), np.bincount(labels, minlength=classes)
    return np.where(support > 0, found / np.maximum(support, 1), np.nan)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Returns the score interval of a rate: within [0,1], and of positive width at 0 and 1 too.

    A grid asks for the same few counts thousands of times, so each is computed once, see `harness.system.remembered`.

    Args:
        successes: Number of successes.
        n: Number of trials; for 0 both ends are NaN.
        confidence: Probability that the interval covers the rate.

    Raises:
        ValueError: if there are more successes than trials, or a number is out of range.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes: expected a number in 0..{n}, got {successes}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    if n == 0:
        return Interval(float("nan"), float("nan"))
    low, high = _wilson(int(successes), int(n), float(confidence))
    return Interval(min(low, successes / n), max(high, successes / n))


@remembered
def _wilson(successes: int, n: int, confidence: float) -> list[float]:
    found = stats.binomtest(successes, n, successes / n)  # at this rate no p-value is searched for, which takes most of the time
    return [float(end) for end in found.proportion_ci(confidence, method="wilson")]


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Returns the two-sided p-value of two classifiers on the same examples, from the examples on which only one is right.

    If both are as good, chance gives each half of these examples. Without such an example it is 1.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions", in its exact form.

    >>> mcnemar_exact(1, 5)  # 2 x (1 + 6) of 64
    0.21875
    """
    return _mcnemar(int(min(only_first, only_second)), int(only_first + only_second)) if only_first + only_second else 1.0


@remembered
def _mcnemar(fewer: int, discordant: int) -> float:
    return float(stats.binomtest(fewer, discordant).pvalue)


def confusion_matrix(predicted: Indices, labels: Indices, classes: int) -> Indices:
    """Returns counts (K, K) with true classes as rows and predicted ones as columns, for K = `classes`."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def class_report(confusion: Indices) -> ClassReport:
    """Returns precision, recall, F1 and support of each class from its confusion matrix (K, K).

    As in scikit-learn with `zero_division=0`, a score without a denominator is 0 as long as the class occurs among
    the labels or the predictions.
    """
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = support + predicted > 0
    return ClassReport(
        precision=_rate(hits, predicted, occurs),
        recall=_rate(hits, support, occurs),
        f1=_rate(2 * hits, support + predicted, occurs),
        support=support,
    )


def _rate(numerator: Indices, denominator: Indices, occurs: Flags) -> Floats:
    return np.where(occurs, numerator / np.maximum(denominator, 1), np.nan)


def macro_scores(report: ClassReport) -> MacroScores:
    """Returns the averages over the classes that occur among labels or predictions; NaN if none does."""
    scores = np.array([report.precision, report.recall, report.f1])
    occurring = scores[:, ~np.isnan(scores[0])]
    precision, recall, f1 = occurring.mean(axis=1) if occurring.size else np.full(3, np.nan)
    return MacroScores(float(precision), float(recall), float(f1))


def roc_curves(logits: Floats, labels: Indices) -> tuple[RocCurve, ...]:
    """Returns the one-vs-rest ROC curve of each class, scored by its softmax probability.

    Args:
        logits: (N, K).
        labels: (N,).

    Returns:
        One curve for each class that has positives and negatives among the labels; none where logits give no probabilities:
        one is NaN or inf, or all of an example are -inf.
    """
    probabilities = softmax(logits)
    if np.isnan(probabilities).any():
        return ()
    present = np.unique(labels)
    if len(present) < 2:
        return ()
    scores = np.ascontiguousarray(probabilities[:, present].T)
    return tuple(_roc_curves(scores, labels == present[:, None], present))


def _roc_curves(scores: Floats, positive: Flags, classes: Indices) -> Iterator[RocCurve]:
    """Counts hits and false alarms at each distinct score, and leaves out the points in the middle of straight lines.

    All classes are counted at once: a grid has tens of thousands of curves.

    Args:
        scores: (C, N) of each class and example.
        positive: (C, N) whether the example is of the class.
        classes: (C,) class indices.
    """
    order = np.argsort(-scores, axis=1)
    sorted_scores = np.take_along_axis(scores, order, axis=1)
    last_of_equals = np.ones(scores.shape, bool)
    last_of_equals[:, :-1] = sorted_scores[:, 1:] != sorted_scores[:, :-1]
    of_class, place = np.nonzero(last_of_equals)
    hits = np.take_along_axis(positive, order, axis=1).cumsum(axis=1)[last_of_equals]
    alarms = place + 1 - hits
    corners = np.ones(len(hits), bool)
    corners[1:-1] = (np.diff(hits, 2) != 0) | (np.diff(alarms, 2) != 0)
    ends = last_of_equals.sum(axis=1).cumsum()
    corners[ends - 1] = corners[ends[:-1]] = True

    of_class, positives = of_class[corners], positive.sum(axis=1)
    slots = np.arange(len(of_class)) + of_class + 1  # each curve begins at the origin
    false_positive_rate, true_positive_rate = np.zeros((2, len(of_class) + len(classes)))
    thresholds = np.full(len(false_positive_rate), np.inf)
    false_positive_rate[slots] = alarms[corners] / (positive.shape[1] - positives)[of_class]
    true_positive_rate[slots] = hits[corners] / positives[of_class]
    thresholds[slots] = sorted_scores[last_of_equals][corners]
    areas = np.diff(false_positive_rate) * (true_positive_rate[1:] + true_positive_rate[:-1]) / 2

    stops = np.bincount(of_class, minlength=len(classes)).cumsum() + np.arange(1, len(classes) + 1)
    for index, start, stop in zip(classes, [0, *stops[:-1]], stops, strict=True):
        own, area = slice(start, stop), float(areas[start : stop - 1].sum())
        yield RocCurve(int(index), false_positive_rate[own], true_positive_rate[own], thresholds[own], area)


def roc_auc_macro(curves: Sequence[RocCurve]) -> float:
    """Returns the mean area under the one-vs-rest curves; NaN if there is none."""
    return float(np.mean([curve.auc for curve in curves])) if curves else float("nan")


def robust_accuracy(clean_correct: Flags, is_adversarial: Flags) -> float:
    """Returns the share of examples that are correct when clean and that no attack made adversarial; NaN for N = 0.

    Args:
        clean_correct: (N,) whether the unperturbed example is classified correctly.
        is_adversarial: (N,) whether an adversarial example within the budget was found.
    """
    return share(clean_correct & ~is_adversarial)


def attack_success_rate(clean_correct: Flags, is_adversarial: Flags) -> float:
    """Returns the share of adversarial examples among those that are correct when clean; NaN if none is.

    An example that was wrong from the start is no success of the attack. For a backdoor, leave the examples of the
    target class out of `clean_correct` and let `is_adversarial` say that the target class was predicted.
    """
    return share(is_adversarial[clean_correct])


def audit_bound(sampled: int, survivors: int, *, confidence: float = 0.95) -> float:
    """Returns an upper bound on the number of survivors of an attack that a stronger one would succeed on.

    The stronger attack was run on a random sample of n of them and succeeded on none. The bound on their share is the exact
    binomial one, one-sided: the p at which (1 - p)^n = 1 - confidence. It is conservative, as the sample is drawn without
    replacement. On the sample itself the attack has no success.

    Args:
        sampled: Size of the sample.
        survivors: Number of survivors, those of the sample included.
        confidence: Probability that the bound holds.

    Raises:
        ValueError: if there are survivors and no sample, or more in the sample than there are.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".

    >>> round(audit_bound(64, 400), 2)
    18.29
    >>> audit_bound(12, 12)
    0.0
    """
    if not 0 <= sampled <= survivors or (survivors and not sampled):
        raise ValueError(f"audit_bound: expected a sample of 1 to {survivors} survivors, got {sampled}")
    if sampled == survivors:
        return 0.0
    share = 1 - (1 - confidence) ** (1 / sampled)
    return float(min(share * survivors, survivors - sampled))
