import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.datasets.loading import evaluation_batches
from harness.datasets.splits import Joined
from harness.errors import HarnessError
from harness.images import ImageData
from harness.system.progress import Advance
from harness.threat import ThreatModel
from harness.training import run
from harness.training.history import COLUMNS, ROBUST_COLUMNS
from harness.training.processes import OneProcess
from harness.training.recipes.base import Progressive
from harness.training.recipes.pgd import PGDTraining
from harness.training.validation import Probe, Validation, validate
from tests.training.cases import (
    classifier,
    copied,
    digits,
    dropout_convnet,
    plain_convnet,
    recipe,
    same_state,
    trained,
)


class Interrupted(Exception):
    """Stands for Ctrl-C."""


class StopsAfter:
    """A progress display that interrupts after some updates."""

    def __init__(self, updates: int) -> None:
        self.left = updates

    @contextmanager
    def task(self, title: str, total: float, unit: str = "") -> Iterator[Advance]:
        def advance(amount: float, note: str) -> None:
            self.left -= int(amount)
            if self.left < 0:
                raise Interrupted

        yield advance


RESUMED = {
    "standard": {"optimiser": {"learning_rate": 0.01, "schedule": "cosine"}},
    "standard with momentum": {"optimiser": {"name": "sgd", "learning_rate": 0.05}},
    "pgd with averages": {"ema": 0.9, "warmup_epochs": 1},
    "trades with perturbed weights": {"awp": 0.005},
    "pgd with a teacher": {"distil": 0.5},
    "pgd seldom validated": {"validate_every": 2},
    "standard on smaller images first": {"progressive": {"epochs": 2, "resolution": 6}, "validation": "learned"},
    "fast in parts": {"micro_batch": 20, "optimiser": {"clip_norm": 1.0}},
}


@pytest.mark.parametrize("case", RESUMED)
def test_interrupted_training_goes_on_to_the_same_weights(case: str, tmp_path: Path) -> None:
    chosen = recipe(case.split(maxsplit=1)[0], **RESUMED[case])
    straight, resumed = classifier(dropout_convnet()), classifier(dropout_convnet())
    expected = trained(straight, chosen)
    with pytest.raises(Interrupted):
        trained(resumed, chosen, checkpoint=tmp_path, progress=StopsAfter(12))
    fresh = classifier(dropout_convnet())
    found = trained(fresh, chosen, checkpoint=tmp_path)
    assert same_state(straight, fresh)
    assert found.best_epoch == expected.best_epoch
    timeless = [{**row, "seconds": 0, "attack_share": 0} for row in found.history]
    assert timeless == [{**row, "seconds": 0, "attack_share": 0} for row in expected.history]


def test_the_teacher_is_the_network_before_training_and_sees_unattacked_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier(dropout_convnet())
    before, seen, loss = copy.deepcopy(model), [], PGDTraining.loss
    monkeypatch.setattr(PGDTraining, "loss", lambda self, network, batch: (seen.append(batch), loss(self, network, batch))[1])
    trained(model, recipe("pgd", distil=0.5))
    assert not same_state(model, before)
    for batch in (seen[0], seen[-1]):
        assert not torch.equal(batch.x, batch.x_adv)
        torch.testing.assert_close(batch.taught, before(batch.x).softmax(1), rtol=1e-4, atol=1e-6)


def test_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, second = classifier(), classifier()
    trained(first, recipe(), checkpoint=tmp_path)
    trained(second, recipe(), checkpoint=tmp_path, progress=StopsAfter(15))
    assert same_state(first, second)


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    trained(classifier(), recipe(), checkpoint=tmp_path)
    for model, chosen, seed in (
        (classifier(seed=1), recipe(), 0),
        (classifier(), recipe(epochs=4), 0),
        (classifier(), recipe(), 1),
    ):
        with pytest.raises(HarnessError, match="expected the checkpoint of this training, found one of another"):
            trained(model, chosen, seed=seed, checkpoint=tmp_path)


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    models = [classifier(dropout_convnet()) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        trained(model, recipe("pgd", epochs=1), seed=seed)
    assert same_state(models[0], models[1])
    assert not same_state(models[0], models[2])


def test_callers_generator_is_left_alone() -> None:
    model = classifier(dropout_convnet())
    before = torch.get_rng_state()
    trained(model, recipe("pgd", epochs=1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["standard", "pgd", "trades", "fast"])
def test_history_has_one_complete_row_an_epoch(name: str) -> None:
    result = trained(classifier(), recipe(name))
    expected = set(COLUMNS) | (set() if name == "standard" else set(ROBUST_COLUMNS))
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert all(set(row) == expected for row in result.history)
    assert all(isinstance(value, float) for row in result.history for value in row.values())


def test_train_and_attacked_accuracies_are_shares() -> None:
    result = trained(classifier(), recipe("pgd", epochs=2))
    shares = ("train_accuracy", "train_clean_accuracy", "validation_accuracy", "validation_robust_accuracy", "attack_share")
    assert all(0 <= row[column] <= 1 for row in result.history for column in shares)
    assert all(row["validation_robust_accuracy"] <= row["validation_accuracy"] for row in result.history)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the epochs' validations come out as given."""

    def plant(*validations: Validation) -> None:
        remaining = iter(validations)
        monkeypatch.setattr(run, "validate", lambda *_, **__: next(remaining))

    return plant


def robust(accuracy: float, loss: float = 1.0) -> Validation:
    return Validation(0.9, 0.1, 10, robust_accuracy=accuracy, robust_loss=loss)


@pytest.mark.parametrize(
    ("validations", "best"),
    [
        ([robust(0.2), robust(0.5), robust(0.4)], 2),
        ([robust(0.5, 1.0), robust(0.5, 0.8), robust(0.5, 0.9)], 2),
        ([robust(0.5), robust(0.5), robust(0.4)], 2),
        ([robust(0.1), robust(0.2), robust(0.3)], 3),
    ],
    ids=["best", "lower loss at equal accuracy", "later of equals", "last"],
)
def test_weights_of_the_planted_best_epoch_are_kept(
    planted: Callable[..., None], validations: list[Validation], best: int
) -> None:
    planted(*validations)
    model, shorter = classifier(), classifier()
    constant = {"learning_rate": 0.01, "schedule": "constant"}
    assert trained(model, recipe("pgd", optimiser=constant)).best_epoch == best
    planted(*validations)
    trained(shorter, recipe("pgd", optimiser=constant, epochs=best))
    assert same_state(model, shorter)


def test_standard_recipe_chooses_by_clean_accuracy(planted: Callable[..., None]) -> None:
    planted(Validation(0.7, 1.0, 10), Validation(0.9, 1.0, 10), Validation(0.8, 0.1, 10))
    result = trained(classifier(), recipe())
    assert result.best_epoch == 2
    assert result.summary["chosen_by"] == "validation_accuracy"


def test_recipe_may_choose_by_loss(planted: Callable[..., None]) -> None:
    planted(Validation(0.7, 1.0, 10), Validation(0.9, 1.0, 10), Validation(0.8, 0.1, 10))
    result = trained(classifier(), recipe(keep_by="loss"))
    assert result.best_epoch == 3
    assert result.summary["chosen_by"] == "validation_loss"


def test_validation_images_may_be_learned_from_and_then_choose_nothing(planted: Callable[..., None]) -> None:
    data = digits()
    joined = replace(data, splits={**data.splits, "train": Joined(data.splits["train"], data.splits["validation"])})
    last, again = classifier(), classifier()
    planted(robust(0.5), robust(0.2), robust(0.1))
    result = trained(last, recipe("pgd", validation="learned"))
    assert result.best_epoch == 3
    assert result.summary["chosen_by"] == "last_epoch"
    assert "learned from" in result.summary["warnings"][0]
    planted(robust(0.1), robust(0.2), robust(0.5))
    trained(again, recipe("pgd"), data=joined)
    assert same_state(last, again)


def test_first_epochs_see_smaller_images_and_the_others_whole_ones() -> None:
    model, sides = classifier(), []
    model.register_forward_hook(lambda module, args, _: sides.append(args[0].shape[-1]) if module.training else None)
    trained(model, recipe("standard", progressive={"epochs": 2, "resolution": 6}, batch_size=80))
    assert sides == [6, 6, 6, 6, 8, 8]


def test_smaller_images_stay_images_in_bounds() -> None:
    x = torch.rand(4, 3, 16, 16)
    small = Progressive(epochs=1, resolution=8).resize(x, 1)
    assert small.shape == (4, 3, 8, 8)
    assert float(small.min()) >= 0
    assert float(small.max()) <= 1
    assert Progressive(epochs=1, resolution=8).resize(x, 2) is x


def test_patience_ends_the_training_early(planted: Callable[..., None]) -> None:
    planted(robust(0.5), robust(0.4), robust(0.3), robust(0.9))
    result = trained(classifier(), recipe("pgd", epochs=4, patience=2))
    assert len(result.history) == 3
    assert result.summary["stopped_early"]


VALIDATED = ("validation_accuracy", "validation_robust_accuracy", "predicted_classes", "catastrophic_overfitting")


def test_epochs_may_go_without_validation_and_end_with_the_same_weights() -> None:
    often, seldom = classifier(), classifier()
    recorded = trained(often, recipe("pgd", epochs=5, validation="learned")).history
    history = trained(seldom, recipe("pgd", epochs=5, validation="learned", validate_every=2)).history
    assert same_state(often, seldom)
    assert [all(column in row for column in VALIDATED) for row in history] == [False, True, False, True, True]
    assert [any(column in row for column in VALIDATED) for row in history] == [False, True, False, True, True]
    for row, wanted in zip(history, recorded, strict=True):
        times = {"seconds", "attack_share"}
        assert {name: value for name, value in row.items() if name not in times} == {
            name: wanted[name] for name in row.keys() - times
        }


def test_epoch_that_was_not_validated_is_not_kept(planted: Callable[..., None]) -> None:
    planted(robust(0.5), robust(0.4), robust(0.3))
    seldom, shorter = classifier(), classifier()
    constant = {"learning_rate": 0.01, "schedule": "constant"}
    assert trained(seldom, recipe("pgd", epochs=5, validate_every=2, optimiser=constant)).best_epoch == 2
    planted(robust(0.5), robust(0.5))
    trained(shorter, recipe("pgd", epochs=2, optimiser=constant))
    assert same_state(seldom, shorter)


def test_averaged_weights_are_the_ones_kept() -> None:
    plain, averaged = classifier(), classifier()
    trained(plain, recipe(epochs=1))
    trained(averaged, recipe(epochs=1, ema=0.99))
    assert not same_state(plain, averaged)


def test_model_is_left_in_eval_mode_with_its_flags_and_activations() -> None:
    net = dropout_convnet()
    net[2] = nn.SiLU(inplace=True)
    model = classifier(net)
    model.backbone[0].weight.requires_grad_(False)
    before = model.backbone[0].weight.clone()
    trained(model, recipe("pgd", epochs=1))
    assert not any(module.training for module in model.modules())
    assert [name for name, weight in model.named_parameters() if not weight.requires_grad] == ["backbone.0.weight"]
    assert torch.equal(model.backbone[0].weight, before)
    assert net[2].inplace
    assert all(weight.grad is None for weight in model.parameters())
    assert model.backbone[0].weight.is_contiguous()


@pytest.mark.parametrize("name", ["standard", "pgd", "trades", "fast"])
def test_frozen_batch_norm_keeps_its_statistics(name: str) -> None:
    model = classifier()
    before = copied(dict(model.named_buffers()))
    trained(model, recipe(name, epochs=1, freeze_batchnorm=True, awp=0.005))
    assert all(torch.equal(buffer, before[key]) for key, buffer in model.named_buffers())


def test_batch_norm_learns_from_the_updates_alone() -> None:
    model = classifier()
    trained(model, recipe("pgd", epochs=1, awp=0.005))
    assert int(model.backbone[1].num_batches_tracked) == 5


@pytest.mark.parametrize("name", ["standard", "pgd", "trades"])
def test_accumulated_gradients_are_those_of_the_whole_batch(name: str) -> None:
    whole, parts = classifier(plain_convnet()), classifier(plain_convnet())
    optimiser = {"name": "sgd", "learning_rate": 0.05}
    one = trained(whole, recipe(name, optimiser=optimiser))
    two = trained(parts, recipe(name, optimiser=optimiser, micro_batch=12))
    assert [row["train_loss"] for row in two.history] == pytest.approx([row["train_loss"] for row in one.history], rel=1e-3)
    for weight, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-2, atol=1e-4)


def test_loss_that_is_not_finite_names_epoch_and_batch() -> None:
    model = classifier()
    with torch.no_grad():
        model.backbone[8].bias[0] = torch.nan
    with pytest.raises(HarnessError, match=r"pgd: epoch 1, batch 1 of 5: expected a finite loss, got nan"):
        trained(model, recipe("pgd"))


def test_last_update_that_ruins_the_weights_is_an_error() -> None:
    chosen = recipe(epochs=1, batch_size=200, optimiser={"name": "sgd", "learning_rate": 1e38, "schedule": "cosine"})
    with pytest.raises(HarnessError, match=r"standard: epoch 1, validation: expected a finite loss, got (nan|inf)"):
        trained(classifier(), chosen)


def test_empty_split_and_other_class_count_are_errors() -> None:
    data = digits()
    empty: ImageData = replace(data, splits={**data.splits, "validation": []})
    with pytest.raises(HarnessError, match="digits: expected images in the split 'validation', found none"):
        trained(classifier(), recipe(), data=empty)
    with pytest.raises(HarnessError, match="expected a model of 3 classes, got one of 10"):
        trained(classifier(), recipe(), data=replace(data, class_names=("a", "b", "c")))


def test_model_without_trainable_parameters_is_an_error() -> None:
    model = classifier()
    model.requires_grad_(False)
    with pytest.raises(HarnessError, match="parameters to train"):
        trained(model, recipe())


def test_mixed_precision_trains() -> None:
    result = trained(classifier(), recipe("pgd", epochs=2, precision="bfloat16"))
    assert result.history[1]["train_loss"] < result.history[0]["train_loss"]


def test_adversarial_training_makes_digits_robust() -> None:
    data, eps = digits(600, 150), "32/255"
    standard, hardened = classifier(), classifier()
    trained(standard, recipe(epochs=3), data=data)
    trained(hardened, recipe("pgd", epochs=3, eps=eps, steps=3), data=data)
    found = [under_attack(model, data, eps) for model in (standard, hardened)]
    assert found[1] > found[0] + 0.15


def under_attack(model: nn.Module, data: ImageData, eps: str) -> float:
    result = validate(
        model,
        evaluation_batches(data.splits["validation"], batch_size=150, workers=0),
        num_classes=10,
        probe=Probe(ThreatModel(eps=eps), steps=10),
        processes=OneProcess(torch.device("cpu")),
        generator=torch.Generator().manual_seed(0),
    )
    return result.robust_accuracy or 0.0


def test_number_of_workers_does_not_change_the_weights() -> None:
    alone, helped = classifier(dropout_convnet()), classifier(dropout_convnet())
    trained(alone, recipe("pgd", epochs=1))
    trained(helped, recipe("pgd", epochs=1), workers=1)
    assert same_state(alone, helped)


def test_batch_size_beyond_the_data_set_costs_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    learner = run.Learner

    def spy(*args: object, example: Tensor, **others: object) -> object:
        shown.append(len(example))
        return learner(*args, example=example, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "Learner", spy)
    for size in (10**6, 40):
        trained(classifier(), recipe(epochs=1, batch_size=size))
    assert shown == [len(digits().splits["train"]), 40]
