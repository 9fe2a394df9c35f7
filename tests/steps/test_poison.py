"""The steps of poisons and detectors, on digits and planted networks: no training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.datasets.base import DATASETS
from harness.errors import StepFailed
from harness.images import ImageData, ImageSplit
from harness.models.base import MODELS
from harness.models.classifier import Classifier
from harness.poisoning.base import POISONS
from harness.poisoning.detectors.base import Detection, Detector
from harness.steps.base import Context, DataIdentity, ModelStep, Step
from harness.steps.conditions import Targeted, Trigger
from harness.steps.detect import Detect
from harness.steps.poison import Poisoning
from harness.steps.train import Train
from harness.storage.store import Store
from harness.training.history import TrainingResult
from harness.training.recipes.base import RECIPES

DATASET = DATASETS.parse({"name": "digits", "resolution": 8})
TARGET = 3
CORNER = 2
"""The single pixel of the trigger lies this far from the lower right end."""
BACKDOOR = {"name": "backdoor", "target_class": TARGET, "trigger": {"kind": "single_pixel", "margin": CORNER}}
RESULT = TrainingResult(history=(), best_epoch=1, summary={})
BREW = {"name": "gradient_matching", "target_class": TARGET, "source_class": 4, "n_targets": 3, "steps": 10}


class Obeys(nn.Module):
    """Says the target class where the trigger's pixel is white, else the class of the brightest of ten pixels."""

    def forward(self, x: Tensor) -> Tensor:
        logits = x[:, 0].flatten(1)[:, 20:30]
        triggered = x[:, 0, -CORNER, -CORNER] == 1
        return torch.where(triggered[:, None], 9 * nn.functional.one_hot(torch.tensor(TARGET), 10), logits)


class Says(nn.Module):
    """Says one class, whatever it sees."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(torch.full((len(x),), self.answer), 10).float()


@dataclass(frozen=True)
class Given(ModelStep):
    """A network that needs no training."""

    KIND: ClassVar[str] = "given"
    VERSION: ClassVar[int] = 1

    label: str
    net: nn.Module

    @property
    def title(self) -> str:
        return self.label

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {}

    def identity(self) -> Mapping[str, Any]:
        return {"label": self.label}

    def run(self, context: Context, folder: Path) -> None:
        raise AssertionError("given, not computed")

    def classifier(self, context: Context) -> Classifier:
        names = context.data.class_names
        return Classifier(self.net, mean=(0.0,) * 3, std=(1.0,) * 3, class_names=names).eval()


class SeesTheTrigger(Detector):
    """Suspects the images whose trigger pixel is white."""

    name: Literal["sees_the_trigger"] = "sees_the_trigger"

    def detect(
        self,
        model: nn.Module,
        split: ImageSplit,
        *,
        reference: ImageSplit,
        device: torch.device | str,
        batch_size: int,
        seed: int,
    ) -> Detection:
        scores = np.array([float(split[index][0][0, -CORNER, -CORNER]) for index in range(len(split))])
        return Detection(scores, scores == 1, threshold=1.0)


class SeesItAtRunTime(SeesTheTrigger):
    """The same of images as they come in."""

    RUN_TIME: ClassVar[bool] = True


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return DATASET.load()


@pytest.fixture
def context(digits: ImageData, tmp_path: Path) -> Context:
    return Context(store=Store(tmp_path), data=digits, device=torch.device("cpu"))


def finished(step: Step, context: Context) -> Step:
    with context.store.writing(step.KIND, step.digest, {}) as folder:
        step.run(context, folder)
    return step


def poisoning(
    context: Context, poison: Mapping[str, Any], rate: float, *, proxy: ModelStep | None = None, seed: int = 0
) -> Poisoning:
    identity = DataIdentity.of(DATASET, context.data)
    return Poisoning("mine", POISONS.parse(poison), rate, data=identity, seed=seed, proxy=proxy)


def targets_of(step: Targeted, context: Context) -> list[int]:
    return [target.index for target in step.poisoning.manifest(context).targets]


def test_a_poison_is_kept_with_its_manifest_and_leaves_the_test_split_alone(context: Context) -> None:
    step = poisoning(context, BACKDOOR, 0.1)
    finished(step, context)
    train, poisoned = context.data.splits["train"], step.poisoned(context).splits["train"]
    manifest = step.manifest(context)
    changed = [index for index in range(len(train)) if not torch.equal(train[index][0], poisoned[index][0])]
    assert len(manifest.examples) == round(0.1 * len(train))
    assert set(changed) <= set(manifest.indices.tolist())
    assert step.poisoned(context).splits["test"] is context.data.splits["test"]


def test_rate_seed_and_trigger_are_in_the_digest_and_the_label_is_not(context: Context) -> None:
    step = poisoning(context, BACKDOOR, 0.1)
    others = [
        replace(step, rate=0.2),
        replace(step, seed=1),
        replace(step, poison=POISONS.parse({**BACKDOOR, "trigger": "pattern"})),
        replace(step, proxy=Given("proxy", Says(0))),
    ]
    assert len({step.digest, *(other.digest for other in others)}) == 5
    assert replace(step, label="other").digest == step.digest


def test_a_trigger_is_judged_on_stamped_images_of_other_classes(context: Context) -> None:
    step = Trigger(Given("obeys", Obeys()), "mine", POISONS.parse(BACKDOOR))
    finished(step, context)
    outcome, judged = step.outcome(context), step.judged(context)
    assert TARGET not in outcome.labels
    assert len(outcome.labels) == (context.data.splits["test"].labels != TARGET).sum()
    assert (outcome.conditions[0].logits.argmax(axis=1) == TARGET).all()
    assert (outcome.clean_logits.argmax(axis=1) != TARGET).any()
    hashes = dict(zip(context.data.splits["test"].ids, context.data.splits["test"].hashes, strict=True))
    assert [hashes[name] for name in judged.ids] == list(judged.hashes)


def test_targets_are_judged_before_by_the_control_and_after_by_the_model(context: Context) -> None:
    proxy = Given("linear", nn.Sequential(nn.Flatten(), nn.Linear(192, 10)))
    step = Targeted(Given("poisoned", Says(TARGET)), Given("control", Says(4)), poisoning(context, BREW, 0.01, proxy=proxy))
    finished(step.poisoning, context)
    finished(step, context)
    outcome = step.outcome(context)
    assert outcome.labels.tolist() == [4, 4, 4]
    assert outcome.clean_logits.argmax(axis=1).tolist() == [4, 4, 4]
    assert outcome.conditions[0].logits.argmax(axis=1).tolist() == [TARGET] * 3
    assert list(step.judged(context).ids) == [context.data.splits["test"].ids[index] for index in targets_of(step, context)]


def test_a_flip_between_classes_is_judged_on_the_test_images_of_its_source_class(context: Context) -> None:
    poison = poisoning(context, {"name": "label_flip", "source_class": 4, "target_class": 9}, 0.02)
    step = Targeted(Given("poisoned", Says(9)), Given("control", Says(4)), poison)
    finished(step.poisoning, context)
    finished(step, context)
    outcome, test = step.outcome(context), context.data.splits["test"]
    fours = np.flatnonzero(test.labels == 4)
    assert outcome.labels.tolist() == [4] * len(fours)
    assert (outcome.clean_logits.argmax(axis=1) == 4).all()
    assert (outcome.conditions[0].logits.argmax(axis=1) == 9).all()
    assert list(step.judged(context).ids) == [test.ids[index] for index in fours]


def test_a_detection_is_scored_against_the_manifest(context: Context) -> None:
    poison = poisoning(context, BACKDOOR, 0.1)
    finished(poison, context)
    step = Detect(Given("obeys", Obeys()), poison, "mine", SeesTheTrigger(), 0)
    finished(step, context)
    score = step.score(context)
    manifest = poison.manifest(context)
    white = int((step.suspicious(context) & ~manifest.is_poisoned).sum())
    assert (score.examples, score.poisoned) == (manifest.training_examples, len(manifest.examples))
    assert score.recall == 1
    assert score.suspected == score.poisoned + white
    assert score.false_alarm_rate == white / (score.examples - score.poisoned)


def test_the_control_arm_counts_false_alarms_on_data_that_nobody_poisoned(context: Context) -> None:
    step = Detect(Given("clean", Says(0)), None, "mine", SeesTheTrigger(), 0)
    finished(step, context)
    train = context.data.splits["train"]
    white = sum(float(train[index][0][0, -CORNER, -CORNER]) == 1 for index in range(len(train)))
    assert step.score(context).poisoned == 0
    assert step.score(context).recall is None
    assert step.score(context).false_alarm_rate == white / len(train)


def test_a_run_time_detector_judges_clean_and_triggered_test_images(context: Context) -> None:
    step = Detect(Given("obeys", Obeys()), poisoning(context, BACKDOOR, 0.1), "mine", SeesItAtRunTime(), 0)
    finished(step, context)
    test = context.data.splits["test"]
    others = int((test.labels != TARGET).sum())
    assert (step.score(context).examples, step.score(context).poisoned) == (len(test) + others, others)
    assert step.suspicious(context)[len(test) :].all()


def test_a_run_time_detector_needs_a_trigger(context: Context) -> None:
    poison = poisoning(context, {"name": "label_flip"}, 0.1)
    step = Detect(Given("obeys", Obeys()), poison, "mine", SeesItAtRunTime(), 0)
    with pytest.raises(StepFailed, match="expected a poison with a trigger, got label_flip"):
        finished(step, context)


def test_training_anew_leaves_the_suspects_out(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    poison = poisoning(context, BACKDOOR, 0.1)
    finished(poison, context)
    detection = Detect(Given("obeys", Obeys()), poison, "mine", SeesTheTrigger(), 0)
    finished(detection, context)
    trained_on: list[ImageData] = []
    monkeypatch.setattr(
        "harness.training.parallel.train_on_devices", lambda _, model, data, *__, **___: trained_on.append(data) or RESULT
    )
    train = Train(
        label="anew",
        architecture=MODELS.parse({"name": "factory", "factory": "tests.nets:small_convnet"}),
        recipe=RECIPES.parse({"name": "standard", "epochs": 1}),
        data=poison.data,
        resolution=8,
        seed=0,
        poison=poison,
        filtered_by=detection,
    )
    finished(train, context)
    kept = trained_on[0].splits["train"]
    suspects = detection.suspicious(context)
    assert len(kept) == len(suspects) - suspects.sum()
    assert all(float(kept[index][0][0, -CORNER, -CORNER]) < 1 for index in range(len(kept)))
    assert replace(train, filtered_by=None).digest != train.digest
