from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from harness.datasets.splits import take
from harness.errors import SuiteError
from harness.images import ImageData
from harness.poisoning.frame import check_data, poison_data
from harness.poisoning.label_flip import LabelFlip


def test_targeted_flip_relabels_the_source_class_alone(digits: ImageData):
    manifest = poison_data(LabelFlip(source_class="4", target_class="9"), digits, 0.03, seed=0).manifest
    assert {(example.label_before, example.label_after) for example in manifest.examples} == {(4, 9)}
    assert manifest.largest_change == 0


def test_random_flip_takes_any_class_and_never_keeps_a_label(digits: ImageData):
    manifest = poison_data(LabelFlip(), digits, 0.5, seed=0).manifest
    assert all(example.label_before != example.label_after for example in manifest.examples)
    assert len(manifest.source_classes) == 10
    assert manifest.target_class is None
    shares = np.bincount([(example.label_after - example.label_before) % 10 for example in manifest.examples], minlength=10)
    assert (shares[1:] > 0.05 * len(manifest.examples)).all()


def test_a_flip_between_classes_aims_at_every_test_image_of_its_source_class(digits: ImageData):
    poison, test = LabelFlip(source_class="4", target_class="9"), digits.splits["test"]
    aimed = poison.aimed_at(digits, poison_data(poison, digits, 0.03, seed=0).manifest)
    assert np.array_equal(aimed, np.flatnonzero(test.labels == 4))


def test_random_labels_aim_at_nothing(digits: ImageData):
    poison = LabelFlip()
    assert not poison.is_targeted
    assert poison_data(poison, digits, 0.03, seed=0).manifest.targets == ()


def test_a_source_class_without_test_images_is_refused(digits: ImageData):
    test = digits.splits["test"]
    data = replace(digits, splits={**digits.splits, "test": take(test, np.flatnonzero(test.labels != 4))})
    message = r"poisons\.label_flip\.source_class: expected a class with test examples, got '4' that has none"
    with pytest.raises(SuiteError, match=message):
        check_data(LabelFlip(source_class="4", target_class="9"), data, 0.03)
    check_data(LabelFlip(), data, 0.03)


def test_random_labels_of_a_lower_rate_are_part_of_a_higher_one(digits: ImageData):
    low, high = (
        {example.index: example.label_after for example in poison_data(LabelFlip(), digits, rate, seed=0).manifest.examples}
        for rate in (0.1, 0.2)
    )
    assert low.items() <= high.items()


@pytest.mark.parametrize("fields", [{"source_class": "4"}, {"target_class": "9"}, {"source_class": "4", "target_class": "4"}])
def test_half_a_label_map_is_refused(fields: dict[str, str]):
    with pytest.raises(ValidationError, match="expected"):
        LabelFlip(**fields)
