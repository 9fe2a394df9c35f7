"""The one definition of how far two runtimes lie apart, on planted outputs."""

import numpy as np
import pytest

from harness.export.differences import Differences

OFF = -np.inf


def outputs(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32)


@pytest.mark.parametrize("size", [10.0, 5600.0, 1e6])
def test_scaling_a_network_changes_neither_its_relative_difference_nor_its_flips(size: float) -> None:
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((50, 4)).astype(np.float32)
    found = (reference + 1e-2 * rng.standard_normal((50, 4))).astype(np.float32)
    small, large = Differences(4 * reference, 4 * found), Differences(size * 4 * reference, size * 4 * found)
    assert large.p99_difference == pytest.approx(size * small.p99_difference, rel=1e-4)
    assert large.p99_relative == pytest.approx(small.p99_relative, rel=0.05)
    for margin in (0, 1e-3, 1e-2):
        assert large.flips_outside(margin) == small.flips_outside(margin)


def test_outputs_below_one_are_compared_as_they_are() -> None:
    compared = Differences(outputs((0.3, 0.7), (0.01, 0.0)), outputs((0.3, 0.7), (0.0, 0.01)))
    assert compared.scales.tolist() == [1, 1]
    assert compared.p99_relative == compared.p99_difference
    assert (compared.flips_outside(0.009), compared.flips_outside(0.011)) == (1, 0)


def test_an_example_with_huge_outputs_loosens_the_bound_for_no_other() -> None:
    reference = outputs((1e6, 0), *[(1, 0.5)] * 9)
    compared = Differences(reference, outputs((1e6, 0), *[(0.5, 1)] * 9))
    assert compared.scales.tolist() == [1e6, *[1] * 9]
    assert compared.flips_outside(1e-3) == 9
    assert compared.p99_relative == pytest.approx(0.5)


def test_an_example_on_the_boundary_has_the_scale_of_its_network() -> None:
    reference = outputs(*[(1000, -1000)] * 3, (0.01, -0.01))
    compared = Differences(reference, outputs(*[(1000, -1000)] * 3, (-0.01, 0.01)))
    assert compared.flip_margins.tolist() == pytest.approx([0.02])
    assert compared.flips_outside(1e-3) == 0
    assert compared.p99_relative < 1e-4


def test_class_switched_off_in_both_is_no_difference() -> None:
    logits = outputs((3, OFF, 1), (OFF, OFF, -2))
    compared = Differences(logits, logits.copy())
    assert (compared.max_difference, compared.p99_difference, compared.p99_relative) == (0, 0, 0)
    assert compared.predicted.tolist() == [0, 2]
    assert (compared.infinite, compared.nan.any(), compared.unbounded.any(), len(compared.flips)) == (0, False, False, 0)


@pytest.mark.parametrize(("reference", "found"), [(OFF, -1e30), (-1e30, OFF), (np.inf, 5), (5, np.inf), (np.inf, OFF)])
def test_infinity_beside_anything_else_is_an_infinite_difference(reference: float, found: float) -> None:
    compared = Differences(outputs((3, reference), (1, 0)), outputs((3, found), (1, 0)))
    assert (compared.max_difference, compared.p99_difference, compared.p99_relative) == (np.inf, np.inf, np.inf)
    assert compared.infinite == 1


def test_flip_to_a_class_that_the_reference_switched_off_is_outside_any_margin() -> None:
    compared = Differences(outputs((3, OFF)), outputs((3, 4)))
    assert compared.flip_margins.tolist() == [np.inf]
    assert compared.flips_outside(1e9) == 1


def test_nan_is_nan_and_no_difference() -> None:
    compared = Differences(outputs((3, OFF), (1, 0)), outputs((3, np.nan), (1, 0.5)))
    assert compared.nan.tolist() == [True, False]
    assert compared.predicted.tolist() == [-1, 0]
    assert (compared.max_difference, compared.infinite, len(compared.flips)) == (0.5, 0, 0)


def test_largest_output_that_is_infinite_is_no_prediction() -> None:
    compared = Differences(None, outputs((np.inf, 0), (OFF, OFF), (OFF, 0)))
    assert compared.predicted.tolist() == [-1, -1, 1]
    assert compared.unbounded.tolist() == [True, True, False]


def test_percentile_next_to_infinity_is_infinite() -> None:
    reference = np.zeros((200, 2), np.float32)
    found = reference.copy()
    found[:3, 0] = np.inf
    assert Differences(reference, found).p99_relative == np.inf
    found[1:3, 0] = 0
    assert (Differences(reference, found).p99_relative, Differences(reference, found).infinite) == (0, 1)


def test_nothing_to_compare_is_not_defined() -> None:
    assert np.isnan(Differences(None, outputs((1, 2))).p99_relative)
    assert np.isnan(Differences(outputs((1, 2)), outputs((np.nan, 2))).max_difference)
