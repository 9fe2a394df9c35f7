import numpy as np
import pytest

from harness.errors import ModelError
from harness.export.parity import Tolerance, measure, require

REFERENCE = np.array([[2.0, 1.0, 0.0], [1.0, 1.0005, 0.0], [0.0, 0.0, 3.0]], np.float32)


def test_equal_outputs_agree():
    parity = measure(REFERENCE, REFERENCE, Tolerance())
    assert (parity.n, parity.flips, parity.flips_outside_margin, parity.max_difference) == (3, 0, 0, 0)
    require(parity, Tolerance(), "model")


def test_flip_between_nearly_equal_outputs_is_excused():
    found = REFERENCE.copy()
    found[1] = [1.0006, 1.0004, 0]
    parity = measure(REFERENCE, found, Tolerance())
    assert (parity.flips, parity.flips_outside_margin) == (1, 0)
    require(parity, Tolerance(), "model")


def test_flip_outside_the_margin_is_an_error():
    found = REFERENCE.copy()
    found[0] = [1.0, 2.0, 0.0]
    with pytest.raises(ModelError, match=r"model\.onnx, clean: .*got 1 flips in 3 images"):
        require(measure(REFERENCE, found, Tolerance(quantile=9)), Tolerance(quantile=9), "model.onnx, clean")


def test_large_outputs_may_differ_by_the_rounding_of_their_size():
    reference, apart = 2000 * REFERENCE, np.full((3, 3), 0.05, np.float32)
    require(measure(reference, reference + apart, Tolerance()), Tolerance(), "model")
    with pytest.raises(ModelError, match=r"99th percentile 0\.\d+, largest difference 100"):
        require(measure(reference, reference + 2000 * apart, Tolerance()), Tolerance(), "model")


def test_flip_to_a_class_far_below_is_an_error_where_the_two_largest_tie():
    found = REFERENCE.copy()
    found[1] = [1.0, 1.0, 1.1]
    parity = measure(REFERENCE, found, Tolerance(quantile=9))
    assert (parity.flips, parity.flips_outside_margin) == (1, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_class_that_is_switched_off_must_be_so_in_both(value):
    reference = np.append(REFERENCE, np.full((3, 1), -np.inf, np.float32), axis=1)
    require(measure(reference, reference.copy(), Tolerance()), Tolerance(), "model")
    found = reference.copy()
    found[2, 3] = value
    said = "NaN in 1 of 3 images" if np.isnan(value) else "an infinity of its own in 1 of 3 images"
    with pytest.raises(ModelError, match=said):
        require(measure(reference, found, Tolerance()), Tolerance(), "model")


@pytest.mark.parametrize("shift", [0.01, np.nan, np.inf])
def test_shifted_or_missing_outputs_are_an_error(shift):
    parity = measure(REFERENCE, REFERENCE + np.float32(shift), Tolerance())
    with pytest.raises(ModelError, match="99th percentile"):
        require(parity, Tolerance(), "model")
