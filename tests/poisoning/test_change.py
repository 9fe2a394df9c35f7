import pytest
import torch

from harness.errors import HarnessError
from harness.poisoning.change import measure

CLEAN = torch.full((3, 8, 8), 0.5)
CORNER = torch.zeros(8, 8, dtype=torch.bool)
CORNER[6:, 6:] = True


def changed(value: float, *pixels: tuple[int, int]) -> torch.Tensor:
    image = CLEAN.clone()
    for row, column in pixels:
        image[:, row, column] = value
    return image


def test_measures_pixels_and_largest_change():
    change = measure(changed(0.75, (7, 7), (6, 7)), CLEAN, mask=CORNER, eps=0.0, where="x")
    assert (change.changed_pixels, change.largest_change) == (2, 0.25)


def test_unchanged_image_has_no_change():
    change = measure(CLEAN.clone(), CLEAN, mask=None, eps=0.0, where="x")
    assert (change.changed_pixels, change.largest_change) == (0, 0.0)


def test_change_outside_the_trigger_is_refused():
    with pytest.raises(HarnessError, match=r"a/7: expected changes of at most 0 outside the trigger, got 0.5 in 1 pixels"):
        measure(changed(1.0, (7, 7), (0, 7)), CLEAN, mask=CORNER, eps=0.0, where="a/7")


def test_trigger_written_along_the_wrong_axis_is_refused():
    image = CLEAN.clone()
    image[:, 6, :] = 1.0
    with pytest.raises(HarnessError, match="outside the trigger"):
        measure(image, CLEAN, mask=CORNER, eps=0.0, where="x")


def test_perturbation_within_its_budget_passes_and_beyond_it_is_refused():
    within, beyond = CLEAN + 0.1, CLEAN + 0.11
    assert measure(within, CLEAN, mask=None, eps=0.1, where="x").changed_pixels == 64
    with pytest.raises(HarnessError, match=r"at most 0\.1 outside the trigger"):
        measure(beyond, CLEAN, mask=None, eps=0.1, where="x")


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_value_outside_the_range_is_refused(value: float):
    with pytest.raises(HarnessError, match=r"expected pixels in \[0,1\]"):
        measure(changed(value, (7, 7)), CLEAN, mask=CORNER, eps=1.0, where="x")


@pytest.mark.parametrize("image", [CLEAN.double(), CLEAN.permute(1, 2, 0)], ids=["dtype", "channels last"])
def test_other_shape_or_type_is_refused(image: torch.Tensor):
    with pytest.raises(HarnessError, match=r"expected torch\.float32"):
        measure(image, CLEAN, mask=None, eps=1.0, where="x")
