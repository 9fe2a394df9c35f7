"""Intervals of shares and of paired differences, and the numbers of examples that would decide."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from harness.metrics import wilson_interval
from harness.reports.decision.intervals import PairCounts, examples_for_pairs, examples_for_rate, paired_interval, score_interval


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 10), (8, 10), (10, 10), (386, 449)])
def test_the_interval_of_a_share_is_scipys(successes: int, n: int, confidence: float) -> None:
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert score_interval(successes / n, n, confidence) == pytest.approx((expected.low, expected.high))


def newcombe(e: int, f: int, g: int, h: int, z: float) -> tuple[float, float]:
    """Newcombe's method 10, written down anew from the paper's formulas."""
    n = e + f + g + h

    def wilson(x: int) -> tuple[float, float]:
        root = z * math.sqrt(z**2 + 4 * x * (n - x) / n)
        return (2 * x + z**2 - root) / (2 * (n + z**2)), (2 * x + z**2 + root) / (2 * (n + z**2))

    (l2, u2), (l3, u3) = wilson(e + f), wilson(e + g)
    dl2, du2, dl3, du3 = (e + f) / n - l2, u2 - (e + f) / n, (e + g) / n - l3, u3 - (e + g) / n
    root, top = (e + f) * (g + h) * (e + g) * (f + h), e * h - f * g
    phi = 0 if root == 0 else (top if top < 0 else max(top - n / 2, 0)) / math.sqrt(root)
    difference = (f - g) / n
    below = math.sqrt(dl2**2 - 2 * phi * dl2 * du3 + du3**2)
    above = math.sqrt(du2**2 - 2 * phi * du2 * dl3 + dl3**2)
    return difference - below, difference + above


@pytest.mark.parametrize("counts", [(60, 25, 5, 10), (0, 30, 10, 0), (1, 40, 40, 1), (50, 0, 0, 0), (0, 50, 0, 0)])
def test_the_paired_interval_is_newcombes(counts: tuple[int, int, int, int]) -> None:
    low, high = newcombe(*counts, z=1.959963984540054)
    assert paired_interval(PairCounts(*counts)) == pytest.approx((max(low, -1), min(high, 1)))


def test_the_paired_interval_covers_the_true_difference() -> None:
    rng, shares = np.random.default_rng(0), (0.6, 0.2, 0.1, 0.1)
    intervals = [paired_interval(PairCounts(*draw)) for draw in rng.multinomial(120, shares, 2000)]
    assert np.mean([low <= 0.1 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)


counts_of = st.tuples(*[st.integers(0, 60)] * 4).filter(any).map(lambda counts: PairCounts(*counts))


@given(counts_of)
def test_the_interval_of_the_other_order_is_mirrored(counts: PairCounts) -> None:
    swapped = counts._replace(first=counts.second, second=counts.first)
    (low, high), (other_low, other_high) = paired_interval(counts), paired_interval(swapped)
    assert (low, high) == pytest.approx((-other_high, -other_low))
    assert low <= counts.difference <= high


@given(st.integers(1, 99), st.integers(0, 100), st.sampled_from([0.8, 0.95, 0.99]))
def test_so_many_examples_decide_a_share_and_clearly_fewer_do_not(bound: int, share: int, confidence: float) -> None:
    needed = examples_for_rate(share / 100, bound / 100, confidence)
    if share == bound:
        assert needed is None
        return
    assert needed is not None

    def decides(n: int) -> bool:
        low, high = wilson_interval(round(share / 100 * n), n, confidence)
        return low >= bound / 100 if share > bound else high < bound / 100

    assert decides(needed)
    exact = score_interval(share / 100, 0.98 * needed - 2, confidence) if needed > 200 else None
    assert exact is None or exact[0] < bound / 100 < exact[1]


def test_a_share_of_one_never_shows_a_bound_of_one() -> None:
    assert examples_for_rate(1.0, 1.0, 0.95) is None


def test_so_many_pairs_decide_a_difference_and_fewer_do_not() -> None:
    counts = PairCounts(60, 25, 5, 10)
    for bound in (0.15, 0.3):
        needed = examples_for_pairs(counts, bound, 0.95)
        assert needed is not None
        (low, high), (less_low, less_high) = (paired_interval(counts.scaled(n)) for n in (needed, needed - 1))
        assert low >= bound or high < bound
        assert less_low < bound <= less_high
    assert examples_for_pairs(counts, counts.difference, 0.95) is None
