"""Memory that is too short for a batch of a training: it is computed in parts, and its updates stay what they are."""

from pathlib import Path

import pytest
import torch
from torch import nn

from harness.errors import HarnessError
from harness.training.history import summarise
from harness.training.processes import OneProcess
from tests.hungry import ERRORS, Hungry
from tests.training.cases import classifier, dropout_convnet, plain_convnet, recipe, same_state, trained
from tests.training.test_loop import Interrupted, StopsAfter


def timeless(history: object) -> list[dict[str, float]]:
    return [{**row, "seconds": 0, "attack_share": 0, "reduced_micro_batch": 0} for row in history]


@pytest.mark.parametrize("error", ERRORS)
def test_a_training_goes_on_as_with_the_smaller_micro_batch(error: str, caplog: pytest.LogCaptureFixture) -> None:
    reduced, expected = classifier(Hungry(dropout_convnet(), 17, error=error)), classifier(Hungry(dropout_convnet(), 1000))
    found = trained(reduced, recipe())
    wanted = trained(expected, recipe(micro_batch=16))
    assert same_state(reduced, expected)
    assert timeless(found.history) == timeless(wanted.history)
    assert {row["reduced_micro_batch"] for row in found.history} == {16}
    assert all("reduced_micro_batch" not in row for row in wanted.history)
    warning = "from epoch 1 on each update was computed in parts of 16 images"
    assert [warning in text for text in found.summary["warnings"]] == [True]
    assert "train standard: out of memory with batches of 32 images" in caplog.text


@pytest.mark.parametrize("name", ["pgd", "trades", "fast"])
def test_adversarial_trainings_go_on_too(name: str) -> None:
    reduced, expected = classifier(Hungry(dropout_convnet(), 16)), classifier(Hungry(dropout_convnet(), 1000))
    trained(reduced, recipe(name, epochs=2))
    trained(expected, recipe(name, epochs=2, micro_batch=16))
    assert same_state(reduced, expected)


def test_without_batch_norm_updates_are_those_of_the_whole_batch() -> None:
    reduced, whole = classifier(Hungry(plain_convnet(), 8)), classifier(Hungry(plain_convnet(), 1000))
    trained(reduced, recipe(epochs=1))
    trained(whole, recipe(epochs=1))
    for one, other in zip(reduced.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_epochs_that_are_done_are_kept(tmp_path: Path) -> None:
    model = classifier(Hungry(dropout_convnet(), 16, spared=8))
    found = trained(model, recipe(epochs=4), checkpoint=tmp_path)
    sizes = [row.get("reduced_micro_batch") for row in found.history]
    first = sizes.index(16)
    assert 0 < first < 4
    assert sizes == [None] * first + [16] * (4 - first)
    whole = trained(classifier(Hungry(dropout_convnet(), 1000)), recipe(epochs=4))
    assert timeless(found.history)[:first] == timeless(whole.history)[:first]
    assert f"from epoch {first + 1} on" in found.summary["warnings"][0]


def test_a_training_that_is_stopped_resumes_with_the_smaller_parts(tmp_path: Path) -> None:
    straight, fresh = classifier(Hungry(dropout_convnet(), 16)), classifier(Hungry(dropout_convnet(), 1000))
    expected = trained(straight, recipe())
    with pytest.raises(Interrupted):
        trained(classifier(Hungry(dropout_convnet(), 16)), recipe(), checkpoint=tmp_path, progress=StopsAfter(12))
    found = trained(fresh, recipe(), checkpoint=tmp_path)
    assert same_state(straight, fresh)
    assert found.summary["warnings"] == expected.summary["warnings"]


def test_a_micro_batch_of_the_recipe_is_halved(caplog: pytest.LogCaptureFixture) -> None:
    found = trained(classifier(Hungry(dropout_convnet(), 5)), recipe(epochs=1, micro_batch=20))
    assert found.history[0]["reduced_micro_batch"] == 5
    assert "batches of 20 images" in caplog.text


@pytest.mark.parametrize(("network", "least"), [(plain_convnet, "1 image"), (dropout_convnet, "2 images")])
def test_a_training_without_room_ends_in_one_line(network: type[nn.Module], least: str) -> None:
    with pytest.raises(HarnessError, match=f"^train standard: out of memory with batches of {least}, and fewer"):
        trained(classifier(Hungry(network(), 0, spared=1)), recipe())


def test_several_processes_name_the_field_to_lower() -> None:
    two = OneProcess(torch.device("cpu"))
    two.count = 2
    with pytest.raises(
        HarnessError, match=r"^standard: out of memory with 32 images at once on 2 devices; a `micro_batch` below 32"
    ):
        trained(classifier(Hungry(dropout_convnet(), 4)), recipe(), processes=two)


def test_a_size_that_was_reduced_twice_is_told_twice() -> None:
    row = {"validation_accuracy": 0.5, "validation_loss": 1.0, "predicted_classes": 2.0, "seconds": 1.0, "attack_share": 0.0}
    sizes = ({}, {"reduced_micro_batch": 16.0}, {"reduced_micro_batch": 8.0}, {"reduced_micro_batch": 8.0})
    history = [{"epoch": float(number), **row, **size} for number, size in enumerate(sizes, start=1)]
    warnings = summarise(history, 4, 4)["warnings"]
    assert ["epoch 2 on" in warnings[0], "16 images" in warnings[0], "epoch 3 on" in warnings[1], "8 images" in warnings[1]] == [
        True
    ] * 4
