"""Paired statistics against statsmodels, scipy and values by hand."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from harness.metrics import mcnemar_exact, wilson_interval
from harness.reports.paired import (
    RESAMPLES,
    bootstrap_mean,
    holm,
    mcnemar,
    pair_counts,
    rank_ranges,
    trapezoid_share,
)


@pytest.mark.parametrize("seed", range(8))
def test_mcnemar_of_random_flips_is_that_of_statsmodels(seed: int) -> None:
    contingency_tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(seed)
    first = rng.random(200) < 0.7
    second = first ^ (rng.random(200) < 0.1 + 0.02 * seed)
    counts = pair_counts(first, second)
    assert list(counts) == [(first & second).sum(), (first & ~second).sum(), (~first & second).sum(), (~first & ~second).sum()]
    table = [[counts.both, counts.first], [counts.second, counts.neither]]
    assert mcnemar(counts) == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_exact(0, 6) == pytest.approx(2 / 64)
    assert mcnemar_exact(6, 0) == pytest.approx(2 / 64)
    assert mcnemar_exact(3, 3) == mcnemar_exact(0, 0) == 1.0


@pytest.mark.parametrize("tests", [0, 1, 2, 5, 40])
def test_holm_is_that_of_statsmodels(tests: int) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = (np.random.default_rng(tests).random(tests) ** 3).round(2)  # small ones, some of them equal
    expected = multitest.multipletests(p_values, method="holm")[1] if tests else []
    assert holm(list(p_values)) == pytest.approx(list(expected))


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (7, 20), (20, 20), (386, 449)])
def test_wilson_is_that_of_statsmodels(successes: int, n: int) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    assert wilson_interval(successes, n) == pytest.approx(proportion.proportion_confint(successes, n, method="wilson"), abs=1e-12)


def test_the_bootstrap_is_scipys_and_the_same_at_every_call() -> None:
    differences = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 150, p=[0.1, 0.7, 0.2])
    expected = bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    found = bootstrap_mean(differences, seed=3)
    assert found == bootstrap_mean(differences, seed=3)
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.low < differences.mean() < found.high


def test_the_bootstrap_of_no_difference_has_no_width() -> None:
    assert bootstrap_mean(np.zeros(10)) == (0, 0)
    assert bootstrap_mean(np.array([0.5])) == (0.5, 0.5)
    assert all(np.isnan(bootstrap_mean(np.zeros(0))))


def right(count: int, n: int = 100) -> np.ndarray:
    return np.arange(n) < count


def test_models_that_the_examples_distinguish_have_one_rank_each() -> None:
    assert rank_ranges([right(90), right(60), right(30)]) == [(1, 1), (2, 2), (3, 3)]


def test_models_that_few_examples_separate_share_their_ranks() -> None:
    # 5 discordant examples of one kind: p = 2 / 32 = 0.0625, not significant even without a correction
    assert rank_ranges([right(90), right(85), right(20)]) == [(1, 2), (1, 2), (3, 3)]


def test_the_correction_counts_all_pairs() -> None:
    # 6 discordant: p = 2 / 64 = 0.031 alone; of three pairs Holm asks for 0.05 / 3 at the smallest, which 7 (0.0156) meets
    assert rank_ranges([right(50), right(44)]) == [(1, 1), (2, 2)]
    assert rank_ranges([right(50), right(50), right(44)]) == [(1, 3), (1, 3), (1, 3)]
    assert rank_ranges([right(50), right(50), right(42)]) == [(1, 2), (1, 2), (3, 3)]
    assert rank_ranges([]) == []


def test_the_area_is_the_trapezoidal_mean_over_the_range() -> None:
    budgets, curve = np.array([0.0, 2.0, 8.0]), np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    # first: 2 whole and a triangle of 6 x 1/2, of 8; second: a triangle of 2 x 1/2, of 8
    assert trapezoid_share(budgets, curve) == pytest.approx([5 / 8, 1 / 8])


@pytest.mark.parametrize("seed", range(4))
def test_ranges_are_those_of_one_test_after_the_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flags = [rng.random(60) < share for share in rng.uniform(0.2, 0.9, 12)]
    pairs = [(one, other) for one in range(12) for other in range(one + 1, 12)]
    found = holm([mcnemar(pair_counts(flags[one], flags[other])) for one, other in pairs])
    better = [(one, other) if flags[one].sum() > flags[other].sum() else (other, one) for one, other in pairs]
    differing = [pair for pair, p_value in zip(better, found, strict=True) if p_value <= 0.05]
    expected = [(1 + sum(it == b for _, b in differing), 12 - sum(it == a for a, _ in differing)) for it in range(12)]
    assert rank_ranges(flags) == expected
    assert differing


def test_equal_counts_of_many_pairs_are_tested_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tested: list[tuple[int, int]] = []
    monkeypatch.setattr("harness.reports.paired.mcnemar_exact", lambda one, two: (tested.append((one, two)), 1.0)[1])
    assert rank_ranges([right(50)] * 30) == [(1, 30)] * 30
    assert tested == [(0, 0)]
