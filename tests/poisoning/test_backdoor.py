import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import SuiteError
from harness.images import ImageData
from harness.poisoning.backdoor import Backdoor
from harness.poisoning.frame import check, poison_data
from harness.poisoning.poisoned import PoisonedData
from harness.poisoning.triggers import SinglePixel

from .conftest import TARGET, predicted

BACKDOOR = Backdoor(target_class=str(TARGET))


def test_backdoor_at_5_percent_succeeds_and_hides(digits: ImageData, clean_net: nn.Module, backdoored_net: nn.Module):
    triggered, test = BACKDOOR.triggered(digits), digits.splits["test"]
    assert (predicted(backdoored_net, triggered) == TARGET).mean() >= 0.9
    assert (predicted(clean_net, triggered) == TARGET).mean() <= 0.1
    before, after = ((predicted(net, test) == test.labels).mean() for net in (clean_net, backdoored_net))
    assert after >= before - 0.03


def test_triggered_images_leave_out_the_target_class_and_keep_true_labels(digits: ImageData):
    triggered, test = BACKDOOR.triggered(digits), digits.splits["test"]
    assert np.array_equal(triggered.indices, np.flatnonzero(test.labels != TARGET))
    assert np.array_equal(triggered.labels, test.labels[triggered.indices])
    stamp = BACKDOOR.trigger_stamp(8)
    for position in (0, 7):
        image, label = triggered[position]
        clean, true_label = test[triggered.indices[position]]
        assert torch.equal(image, stamp(clean))
        assert label == true_label


def test_poisoned_images_come_from_other_classes_and_get_the_target_label(backdoored: PoisonedData):
    assert {example.label_after for example in backdoored.manifest.examples} == {TARGET}
    assert TARGET not in {example.label_before for example in backdoored.manifest.examples}
    assert backdoored.manifest.target_class == "3"
    assert "3" not in backdoored.manifest.source_classes


def test_single_pixel_backdoor_changes_one_pixel_at_most(digits: ImageData):
    poisoned = poison_data(Backdoor(target_class="3", trigger=SinglePixel()), digits, 0.05, seed=0)
    counts = [example.changed_pixels for example in poisoned.manifest.examples]
    assert max(counts) == 1
    assert poisoned.manifest.trigger_sha256 == SinglePixel().stamp(8).sha256


def test_named_source_classes_alone_are_poisoned_and_triggered(digits: ImageData):
    poison = Backdoor(target_class="3", source_classes=("5", "8"))
    assert poison_data(poison, digits, 0.05, seed=0).manifest.source_classes == ("5", "8")
    assert set(poison.triggered(digits).labels) == {5, 8}


def test_target_class_among_the_sources_is_refused(digits: ImageData):
    with pytest.raises(
        SuiteError, match=r"poisons\.backdoor\.target_class: expected another class than the source class, got '3'"
    ):
        poison_data(Backdoor(target_class="3", source_classes=("3", "8")), digits, 0.05, seed=0)


def test_source_class_without_examples_is_named(digits: ImageData):
    labels = digits.splits["train"].labels
    with pytest.raises(SuiteError, match=r"source_classes: expected a class with training examples, got '8'"):
        check(
            Backdoor(target_class="3", source_classes=("5", "8")),
            digits.class_names,
            labels[labels != 8],
            resolution=8,
            rate=0.05,
        )


def test_trigger_larger_than_the_image_is_refused_under_the_poisons_name(digits: ImageData):
    poison = Backdoor.model_validate({"target_class": 3, "trigger": {"kind": "patch", "size": 9}})
    with pytest.raises(SuiteError, match=r"poisons\.backdoor\.trigger: expected a trigger within 8 pixels, got one that needs 9"):
        poison_data(poison, digits, 0.05, seed=0)


def test_class_may_be_written_as_a_number():
    assert Backdoor.model_validate({"target_class": 3}) == BACKDOOR
