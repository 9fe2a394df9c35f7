"""The contract of every poison plug-in, on real digits."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import HarnessError, StoreError, SuiteError
from harness.images import ImageData
from harness.poisoning.base import POISONS, Crafted, DrawnExamples, Poison
from harness.poisoning.frame import check, load_poisoned, poison_data
from harness.poisoning.label_flip import LabelFlip
from harness.poisoning.poisoned import PoisonedData, example_pairs
from harness.poisoning.splits import images_at
from harness.system.seeds import global_seed

EPS = 0.25
SPECS: dict[str, dict[str, Any]] = {
    "backdoor": {"target_class": 3},
    "clean_label_backdoor": {"target_class": 3, "eps": EPS, "steps": 5},
    "feature_collision": {"source_class": 7, "target_class": 1, "steps": 5, "n_targets": 2},
    "gradient_matching": {"source_class": 7, "target_class": 1, "eps": EPS, "steps": 10},
    "hidden_trigger": {"source_class": 7, "target_class": 1, "eps": EPS, "steps": 5, "trigger": "single_pixel"},
    "label_flip": {"source_class": 4, "target_class": 9},
}
RATE = 0.02
"""22 of 1,078 training digits."""
COUNT = 22


def poison_named(name: str) -> Poison:
    return POISONS.parse({"name": name, **SPECS[name]})


@pytest.fixture(scope="module", params=sorted(SPECS))
def poison(request: pytest.FixtureRequest) -> Poison:
    return poison_named(request.param)


@pytest.fixture(scope="module")
def poisoned(poison: Poison, digits: ImageData, clean_net: nn.Module) -> PoisonedData:
    return poison_data(poison, digits, RATE, seed=5, model=clean_net)


def test_every_registered_poison_is_under_contract():
    assert POISONS.names() == sorted(SPECS)


def test_exactly_the_rounded_share_is_poisoned(poisoned: PoisonedData):
    assert len(poisoned.manifest.examples) == COUNT
    assert poisoned.manifest.requested_rate == RATE
    assert poisoned.manifest.realised_rate == COUNT / 1078


def test_only_the_listed_indices_differ(poisoned: PoisonedData, digits: ImageData):
    before, after = digits.splits["train"], poisoned.data.splits["train"]
    differs = [
        not torch.equal(before[index][0], after[index][0]) or before[index][1] != after[index][1] for index in range(len(before))
    ]
    assert np.array_equal(np.flatnonzero(differs), poisoned.manifest.indices)


def test_manifest_says_what_the_split_holds(poisoned: PoisonedData, digits: ImageData):
    before, after = digits.splits["train"], poisoned.data.splits["train"]
    for example in poisoned.manifest.examples:
        (clean, label_before), (image, label_after) = before[example.index], after[example.index]
        assert (example.label_before, example.label_after) == (label_before, label_after)
        assert label_after == after.labels[example.index]
        assert example.id == before.ids[example.index]
        assert example.sha256 == after.hashes[example.index]
        assert example.changed_pixels == int((image != clean).any(dim=0).sum())
        assert example.largest_change == pytest.approx(float((image - clean).abs().max()))


def test_validation_and_test_split_are_the_clean_ones(poisoned: PoisonedData, digits: ImageData):
    for name in ("validation", "test"):
        assert poisoned.data.splits[name] is digits.splits[name]
    assert poisoned.data.content_hash != digits.content_hash


def test_images_keep_shape_type_and_range(poisoned: PoisonedData):
    images = images_at(poisoned.data.splits["train"], poisoned.manifest.indices)
    assert images.shape == (COUNT, 3, 8, 8)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1


class Rerun(NamedTuple):
    """The same poison made once more, on a network in mixed modes, with what it left behind."""

    poisoned: PoisonedData
    net: nn.Module
    before: nn.Module
    draws: tuple[float, float]


def next_draws() -> tuple[float, float]:
    return float(torch.rand(())), float(np.random.rand())


@pytest.fixture(scope="module")
def rerun(poison: Poison, digits: ImageData, clean_net: nn.Module) -> Rerun:
    net = copy.deepcopy(clean_net).train()
    net[0].eval()
    next(net.parameters()).requires_grad_(False)
    before = copy.deepcopy(net)
    with global_seed(1):
        poisoned = poison_data(poison, digits, RATE, seed=5, model=net)
        return Rerun(poisoned, net, before, next_draws())


def test_same_seed_gives_the_same_poison(rerun: Rerun, poisoned: PoisonedData):
    assert rerun.poisoned.manifest == poisoned.manifest
    assert rerun.poisoned.data.content_hash == poisoned.data.content_hash


def test_network_is_left_as_it_was(rerun: Rerun):
    for module, was in zip(rerun.net.modules(), rerun.before.modules(), strict=True):
        assert module.training == was.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for parameter, old in zip(rerun.net.parameters(), rerun.before.parameters(), strict=True):
        assert torch.equal(parameter, old)
        assert parameter.requires_grad == old.requires_grad
        assert parameter.grad is None


def test_global_random_state_is_left_as_it_was(rerun: Rerun):
    with global_seed(1):
        assert rerun.draws == next_draws()


def test_crafting_is_silent(poison: Poison, digits: ImageData, clean_net: nn.Module, capfd: pytest.CaptureFixture[str]):
    poison_data(poison, digits, RATE, seed=5, model=clean_net)
    assert capfd.readouterr() == ("", "")


def test_saved_poison_is_the_same_when_loaded(poison: Poison, poisoned: PoisonedData, digits: ImageData, tmp_path: Path):
    poisoned.save(tmp_path)
    loaded = load_poisoned(poison, tmp_path, digits)
    assert loaded.manifest == poisoned.manifest
    assert loaded.data.content_hash == poisoned.data.content_hash
    for index in poisoned.manifest.indices:
        before, after = poisoned.data.splits["train"][index], loaded.data.splits["train"][index]
        assert torch.equal(before[0], after[0])
        assert before[1] == after[1]


def test_poison_that_needs_a_network_says_so(poison: Poison, digits: ImageData):
    reason = poison.supports(digits, RATE, None)
    assert (reason is not None) == poison.NEEDS_MODEL
    if reason:
        with pytest.raises(SuiteError, match="needs a network trained on the clean data"):
            poison_data(poison, digits, RATE, seed=0)


def test_poison_with_a_trigger_gives_triggered_test_images(poison: Poison, digits: ImageData):
    assert (poison.triggered(digits) is not None) == poison.HAS_TRIGGER
    assert (poison.trigger_stamp(8) is not None) == poison.HAS_TRIGGER


def test_poison_that_is_targeted_aims_at_test_images_that_are_not_of_its_target_class(
    poison: Poison, poisoned: PoisonedData, digits: ImageData
):
    if not poison.is_targeted:
        assert not poison.HAS_TARGETS
        return
    aimed = poison.aimed_at(digits, poisoned.manifest)
    assert len(aimed)
    assert poison.target_index(digits.class_names) not in digits.splits["test"].labels[aimed]


@pytest.mark.parametrize("rate", [0.0, 1.5, 0.0001])
def test_rate_is_checked_under_the_poisons_name(poison: Poison, digits: ImageData, rate: float):
    with pytest.raises(SuiteError, match=rf"poisons\.{poison.name}\.rates: expected a rate"):
        check(poison, digits.class_names, digits.splits["train"].labels, resolution=8, rate=rate)


def test_more_than_can_be_poisoned_is_refused(poison: Poison, digits: ImageData):
    with pytest.raises(SuiteError, match="too few examples"):
        check(poison, digits.class_names, digits.splits["train"].labels, resolution=8, rate=0.99)


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name in SPECS for field in ("source_class", "target_class") if field in SPECS[name]],
)
def test_unknown_class_is_named(name: str, field: str, digits: ImageData):
    unknown = poison_named(name).model_copy(update={field: "kiwi"})
    with pytest.raises(SuiteError, match=rf"poisons\.{name}\.{field}: expected one of the classes 0, 1, .*, got 'kiwi'"):
        check(unknown, digits.class_names, digits.splits["train"].labels, resolution=8, rate=RATE)


@pytest.mark.parametrize(
    ("name", "field"),
    [*((name, "target_class") for name in SPECS), ("hidden_trigger", "source_class"), ("label_flip", "source_class")],
)
def test_class_without_training_examples_is_named(name: str, field: str, digits: ImageData):
    labels, index = digits.splits["train"].labels, SPECS[name][field]
    with pytest.raises(SuiteError, match=rf"{field}: expected a class with training examples, got '{index}' that has none"):
        check(poison_named(name), digits.class_names, labels[labels != index], resolution=8, rate=RATE)


@pytest.mark.parametrize("name", [name for name in SPECS if poison_named(name).CRAFTS])
def test_crafted_images_beyond_memory_are_refused(name: str):
    labels = np.arange(1_000_000) % 10
    with pytest.raises(SuiteError, match="expected crafted images of 2048 MiB at most, got 10000 of 224 x 224 pixels"):
        check(poison_named(name), tuple("0123456789"), labels, resolution=224, rate=0.01)


def test_poison_of_other_data_is_not_loaded(backdoored: PoisonedData, digits: ImageData, tmp_path: Path):
    backdoored.save(tmp_path)
    with pytest.raises(StoreError, match="expected a poison of data"):
        load_poisoned(poison_named("backdoor"), tmp_path, backdoored.data)


def test_example_pairs_show_poisoned_images_beside_clean_ones(backdoored: PoisonedData, digits: ImageData):
    pairs = example_pairs(digits, backdoored, 3)
    assert len(pairs) == 3
    for example, clean, poisoned in pairs:
        assert torch.equal(clean, digits.splits["train"][example.index][0])
        assert int((clean != poisoned).any(dim=0).sum()) == example.changed_pixels
    assert len(example_pairs(digits, backdoored, 1000)) == len(backdoored.manifest.examples)


class Overreaching(LabelFlip):
    """Says that it changes labels, and changes pixels."""

    def craft(self, drawn: DrawnExamples) -> Crafted:
        return Crafted(drawn.labels, torch.from_numpy(1 - drawn.images()))


def test_frame_refuses_a_plugin_that_changes_more_than_it_may(digits: ImageData):
    with pytest.raises(HarnessError, match=r"poisons\.label_flip: digits/\d+: expected changes of at most 0 outside the trigger"):
        poison_data(Overreaching(), digits, RATE, seed=0)
