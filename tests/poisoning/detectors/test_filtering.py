import numpy as np
import pytest

from harness.errors import DataError
from harness.images import ImageData
from harness.poisoning.detectors.filtering import filtered
from harness.poisoning.poisoned import PoisonedData


def test_filter_by_the_truth_leaves_the_clean_examples(backdoored: PoisonedData, digits: ImageData):
    left = filtered(backdoored.data, backdoored.manifest.is_poisoned)
    clean = np.flatnonzero(~backdoored.manifest.is_poisoned)
    assert np.array_equal(left.splits["train"].labels, digits.splits["train"].labels[clean])
    assert list(left.splits["train"].hashes) == [digits.splits["train"].hashes[index] for index in clean]
    assert left.splits["test"] is digits.splits["test"]
    assert left.content_hash != backdoored.data.content_hash


def test_filter_that_empties_a_class_names_it(digits: ImageData):
    with pytest.raises(DataError, match="every class to be left, got none of 4"):
        filtered(digits, digits.splits["train"].labels == 4)
