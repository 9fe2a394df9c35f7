from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.images import ImageData, View, read_detailed
from harness.poisoning.detectors.filtering import filtered
from harness.poisoning.splits import Overlay, Selection
from harness.poisoning.triggers import SinglePixel

INDICES = np.array([2, 5])


@pytest.fixture
def overlay(digits: ImageData) -> Overlay:
    images = torch.full((2, 3, 8, 8), 0.25)
    return Overlay(digits.splits["train"], INDICES, labels=np.array([7, 8]), hashes=["a", "b"], images=images)


def test_overlay_replaces_images_labels_and_hashes(overlay: Overlay, digits: ImageData):
    split = digits.splits["train"]
    assert overlay[5][1] == overlay.labels[5] == 8
    assert (overlay[5][0] == 0.25).all()
    assert overlay.hashes[5] == "b"
    assert torch.equal(overlay[4][0], split[4][0])
    assert overlay.hashes[4] == split.hashes[4]
    assert overlay.ids == split.ids
    assert len(overlay) == len(split)


def test_overlay_leaves_the_clean_split_alone(digits: ImageData):
    split = digits.splits["train"]
    before = split.labels.copy()
    Overlay(split, INDICES, labels=np.array([7, 8]), hashes=["a", "b"])
    assert np.array_equal(split.labels, before)


def test_overlay_ends_where_the_split_ends(overlay: Overlay):
    assert torch.equal(overlay[-1][0], overlay[len(overlay) - 1][0])
    with pytest.raises(IndexError):
        overlay[len(overlay)]


class Detailed(View):
    """Has detail: white images of any size."""

    def read_detailed(self, index: int, side: int) -> Tensor:
        return torch.ones(3, side, side)


def test_a_poisoned_image_has_no_more_detail_than_what_was_crafted(digits: ImageData, overlay: Overlay):
    split = Detailed(digits.splits["train"], np.arange(6))
    overlay = Overlay(split, INDICES, labels=np.array([7, 8]), hashes=["a", "b"], stamp=SinglePixel().stamp(8))
    assert read_detailed(overlay, 0, 12).shape == (3, 12, 12)
    assert torch.equal(read_detailed(overlay, 2, 12), overlay[2][0])


def test_overlay_stamps_crafted_images_as_well(digits: ImageData):
    images = torch.full((2, 3, 8, 8), 0.25)
    stamp = SinglePixel().stamp(8)
    overlay = Overlay(digits.splits["train"], INDICES, labels=np.array([7, 8]), hashes=["a", "b"], images=images, stamp=stamp)
    assert overlay[2][0][0, 6, 6] == 1
    assert (overlay[2][0] == 0.25).sum() == 3 * 63


def test_selection_keeps_order_labels_and_names(digits: ImageData):
    split = digits.splits["test"]
    selection = Selection(split, np.array([9, 4]))
    assert list(selection.ids) == [split.ids[9], split.ids[4]]
    assert torch.equal(selection[1][0], split[4][0])
    assert selection[0][1] == selection.labels[0] == split.labels[9]
    assert selection.hashes == [split.hashes[9], split.hashes[4]]


def test_what_a_filter_leaves_keeps_its_detail_and_a_stamped_image_its_stamp(digits: ImageData):
    split = Detailed(digits.splits["train"], np.arange(len(digits.splits["train"])))
    data = filtered(replace(digits, splits={**digits.splits, "train": split}), np.arange(len(split)) == 0)
    assert read_detailed(data.splits["train"], 0, 12).shape == (3, 12, 12)
    stamped = Selection(split, INDICES, stamp=SinglePixel().stamp(8))
    assert torch.equal(read_detailed(stamped, 1, 12), stamped[1][0])


def test_stamped_selection_has_other_content(digits: ImageData):
    split = digits.splits["test"]
    stamped = Selection(split, np.array([9, 4]), stamp=SinglePixel().stamp(8))
    assert stamped[0][0][0, 6, 6] == 1
    assert stamped.hashes[0] != split.hashes[9]
    assert len(set(stamped.hashes)) == 2
