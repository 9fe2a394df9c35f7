"""Statistics of two models on the same examples: exact McNemar tests, Holm's correction, bootstrap intervals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.metrics import Flags, Floats, Interval, mcnemar_exact
from harness.reports.decision.intervals import PairCounts
from harness.system.lazy import stats

SIGNIFICANCE = 0.05
"""Probability of calling two equal models different, over all tests of a family."""
RESAMPLES = 2000
"""Resamples of a bootstrap."""
LARGEST_BATCH = 4_000_000
"""Values that one batch of resamples holds at most, for memory."""


def pair_counts(first: Flags, second: Flags) -> PairCounts:
    """Returns on how many of the same examples two models are right.

    Args:
        first: (N,) whether the first model is right.
        second: (N,) whether the second is.

    >>> pair_counts(np.array([True, True, False]), np.array([True, False, False]))
    PairCounts(both=1, first=1, second=0, neither=1)
    """
    counts = (first & second, first & ~second, ~first & second, ~first & ~second)
    return PairCounts(*(int(flags.sum()) for flags in counts))


def mcnemar(counts: PairCounts) -> float:
    """Returns the p-value of the exact test whether two models are right equally often, see `harness.metrics.mcnemar_exact`."""
    return mcnemar_exact(int(counts.first), int(counts.second))


def holm(p_values: Sequence[float] | Floats) -> list[float]:
    """Returns p-values that are corrected for the number of tests, in the same order.

    The smallest is multiplied by the number of tests m, the next one by m - 1, and so on; none falls below a smaller one.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    rising = np.maximum.accumulate(np.asarray(p_values, float)[order] * factors) if len(p_values) else np.zeros(0)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(rising, 1.0)
    return [float(value) for value in corrected]


def bootstrap_mean(differences: Floats, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Returns the percentile interval of the mean of paired differences (N,); the examples are drawn with replacement.

    NaN at both ends for N = 0. Where all differences are equal, the interval has no width.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    n = len(differences)
    if not n:
        return Interval(float("nan"), float("nan"))
    if n == 1 or (differences == differences[0]).all():
        return Interval(float(differences[0]), float(differences[0]))
    found = stats.bootstrap(
        (np.asarray(differences, float),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, LARGEST_BATCH // n),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def rank_ranges(right: Sequence[Flags], *, significance: float = SIGNIFICANCE) -> list[tuple[int, int]]:
    """Returns the best and the worst rank that each of M models may have, as far as the same examples distinguish them.

    A model is behind those that are right significantly more often, and ahead of those that are so less often: by exact
    McNemar tests of all M (M - 1) / 2 pairs with Holm's correction.

    Args:
        right: For each model, (N,) whether it is right.
        significance: Probability of a single false decision among all pairs.
    """
    if not len(right):
        return []
    ones, others = np.triu_indices(len(right), 1)
    flags = np.stack(right).astype(np.float64)  # float64 counts exactly, and multiplies fast
    both, own = flags @ flags.T, flags.sum(axis=1)
    first, second = (own[of] - both[ones, others] for of in (ones, others))
    size = flags.shape[1] + 1
    tests, test_of = np.unique((first * size + second).astype(int), return_inverse=True)  # few among many pairs
    p_values = np.array([mcnemar_exact(*divmod(int(test), size)) for test in tests])[test_of]
    differ = np.asarray(holm(p_values)) <= significance
    better, worse = np.where(first > second, (ones, others), (others, ones))[:, differ]
    ahead, behind = (np.bincount(of, minlength=len(right)) for of in (worse, better))
    return [(int(above) + 1, len(right) - int(below)) for above, below in zip(ahead, behind, strict=True)]


def trapezoid_share(budgets: Floats, right: NDArray[np.floating]) -> Floats:
    """Returns the area under the robustness curve of each example, as a share of the range of budgets: (B,), (B, N) -> (N,).

    The mean over the examples is the area under the curve of robust accuracy, by the trapezoidal rule.
    """
    area: Floats = np.trapezoid(right, budgets, axis=0) / (budgets[-1] - budgets[0])
    return area
