"""Intervals of shares and of paired differences, and how many examples would decide a bound."""

import math
from statistics import NormalDist
from typing import NamedTuple

from harness.metrics import Interval

MOST_EXAMPLES = 10_000_000
"""Above it the number of examples is not refined: nobody collects as many."""


class PairCounts(NamedTuple):
    """On how many of the same examples two models are right."""

    both: float
    first: float
    """Only the first is."""
    second: float
    """Only the second is."""
    neither: float

    @property
    def n(self) -> float:
        """The number of examples."""
        return sum(self)

    @property
    def difference(self) -> float:
        """The share of the first less that of the second."""
        return (self.first - self.second) / self.n

    def scaled(self, n: float) -> "PairCounts":
        """Returns the same shares of n examples."""
        return PairCounts(*(count * n / self.n for count in self))


def paired_interval(counts: PairCounts, confidence: float = 0.95) -> Interval:
    """Returns an interval of the difference of two shares that were measured on the same examples.

    The Wilson intervals of both shares, combined with the correlation of the two, which is shrunk towards 0 (method 10).

    Args:
        counts: The 2 x 2 table.
        confidence: Probability that the interval covers the difference.

    Source: Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired
        data", Statistics in Medicine 17, 2635-2650.

    >>> low, high = paired_interval(PairCounts(both=60, first=25, second=5, neither=10))
    >>> round(low, 4), round(high, 4)
    (0.0963, 0.2999)
    """
    n = counts.n
    if not n:
        return Interval(math.nan, math.nan)
    one, other = (counts.both + counts.first) / n, (counts.both + counts.second) / n
    (low1, high1), (low2, high2) = score_interval(one, n, confidence), score_interval(other, n, confidence)
    phi, difference = _correlation(counts), one - other
    below = _combined(one - low1, high2 - other, phi)
    above = _combined(high1 - one, other - low2, phi)
    return Interval(max(-1.0, difference - below), min(1.0, difference + above))


def _combined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))


def _correlation(counts: PairCounts) -> float:
    """Returns Newcombe's correlation of the two models; where it is positive, with a continuity correction."""
    both, first, second, neither = counts
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    if product == 0:
        return 0.0
    covariance = both * neither - first * second
    corrected = max(covariance - counts.n / 2, 0.0) if covariance > 0 else covariance
    return corrected / math.sqrt(product)


def score_interval(rate: float, n: float, confidence: float) -> Interval:
    """Returns the Wilson interval of a share of n examples; see `harness.metrics.wilson_interval`.

    The share need not be a count of whole examples, as a mean over conditions is none, and n no whole number, as where the same
    shares of other numbers of examples are asked about. scipy's interval takes counts alone.
    """
    z = _z(confidence)
    centre, scale = rate + z**2 / (2 * n), 1 + z**2 / n
    half_width = z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return Interval(max(0.0, min((centre - half_width) / scale, rate)), min(1.0, max((centre + half_width) / scale, rate)))


def examples_for_rate(rate: float, bound: float, confidence: float) -> int | None:
    """Returns of how many examples, with this share among them, the Wilson interval lies on one side of a bound.

    The interval excludes the bound where the score test rejects it: n > z^2 bound (1 - bound) / (rate - bound)^2. From there on
    the first n is taken at which the count nearest to the share does so.

    Returns:
        The number; None where no number of examples would do, as the share equals the bound.

    Source: Wilson 1927; the interval is the inversion of the score test.

    >>> examples_for_rate(0.9, 0.85, 0.95)
    200
    """
    gap = rate - bound
    if gap == 0:
        return None
    n = max(1, math.ceil(_z(confidence) ** 2 * bound * (1 - bound) / gap**2))
    while n < MOST_EXAMPLES and not _excludes(round(rate * n), n, bound, confidence, above=gap > 0):
        n += 1
    return n


def _excludes(successes: int, n: int, bound: float, confidence: float, *, above: bool) -> bool:
    low, high = score_interval(successes / n, n, confidence)
    return low >= bound if above else high < bound


def examples_for_pairs(counts: PairCounts, bound: float, confidence: float) -> int | None:
    """Returns of how many examples, with these shares among them, the interval of the difference lies on one side of a bound.

    Returns:
        The number; None where the difference equals the bound, or more than `MOST_EXAMPLES` would be needed.
    """
    if not counts.n or math.isclose(counts.difference, bound, abs_tol=1e-12):
        return None
    small, large = 1, 2
    while not _pairs_decide(counts.scaled(large), bound, confidence):
        small, large = large, 2 * large
        if large > MOST_EXAMPLES:
            return None
    while large - small > 1:
        middle = (small + large) // 2
        small, large = (small, middle) if _pairs_decide(counts.scaled(middle), bound, confidence) else (middle, large)
    return large


def _pairs_decide(counts: PairCounts, bound: float, confidence: float) -> bool:
    low, high = paired_interval(counts, confidence)
    return low >= bound or high < bound


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
