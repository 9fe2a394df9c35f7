import numpy as np
import pytest

from harness.errors import SuiteError
from harness.poisoning.choice import draw, poison_count


@pytest.mark.parametrize(("rate", "count"), [(0.05, 5), (0.054, 5), (0.056, 6), (1.0, 100), (0.01, 1)])
def test_count_is_the_rounded_share_of_the_whole_training_split(rate: float, count: int):
    assert poison_count(rate, 100, 100, where="rate") == count


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.01, float("nan")])
def test_rate_outside_0_1_is_refused(rate: float):
    with pytest.raises(SuiteError, match=r"poisons\.x\.rate: expected a rate in \(0, 1\], got"):
        poison_count(rate, 100, 100, where="poisons.x.rate")


def test_rate_that_rounds_to_no_example_is_refused():
    with pytest.raises(SuiteError, match=r"one example at least, got 0\.004 of 100 training examples"):
        poison_count(0.004, 100, 100, where="rate")


def test_rate_above_what_can_be_poisoned_names_the_largest_rate():
    with pytest.raises(SuiteError, match=r"too few examples for the rate.*0\.3 of 100 is 30, and only 12.*largest rate is 0\.12"):
        poison_count(0.3, 100, 12, where="rate")


def test_draw_takes_distinct_eligible_examples_in_order():
    eligible = np.arange(100) % 3 == 0
    drawn = draw(eligible, 20, seed=4)
    assert len(set(drawn)) == 20
    assert eligible[drawn].all()
    assert (np.diff(drawn) > 0).all()


def test_draw_is_decided_by_the_seed_and_nested_across_counts():
    eligible = np.ones(200, dtype=bool)
    assert np.array_equal(draw(eligible, 30, seed=1), draw(eligible, 30, seed=1))
    assert not np.array_equal(draw(eligible, 30, seed=1), draw(eligible, 30, seed=2))
    assert set(draw(eligible, 10, seed=1)) < set(draw(eligible, 30, seed=1))
