"""A suite whose poisons, detectors or expectations fit neither each other nor the data is refused, before any training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.splits import take
from harness.errors import SuiteError
from harness.images import ImageData
from harness.planning.plan import plan_of
from harness.running.runner import run
from harness.steps.train import Train
from tests.poisoned_suite.suite import HARDENED, NOISE, suite_of


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("poisons.backdoor.rates=[0]", "poisons.backdoor: rates: expected shares in"),
        ("poisons.backdoor.rates=[1.5]", "expected shares in"),
        ("poisons.backdoor.rates=[0.1, 0.1]", "each once"),
        ("poisons.backdoor.seeds=0", "poisons.backdoor.seeds: expected a number >= 1, got 0"),
        ("poisons.backdoor.name=backdor", "did you mean 'backdoor'"),
        ("models.hardened.poisons=[none]", "models.hardened.poisons: expected one of backdoor, brew, got 'none'"),
        ("detectors.strip.models=[nobody]", "detectors.strip.models: expected one of baseline, hardened, got 'nobody'"),
        ("models.baseline.poisons=[]", "expected models with poisons to detect, got 'baseline' without any"),
        ("detectors.strip.name=stripe", "did you mean 'strip'"),
        (
            "detectors.clustering.retrain_for=[brewery]",
            "detectors.clustering.retrain_for: expected one of backdoor, brew, got 'brewery'",
        ),
        ("detectors.strip={name: strip, retrain: false, retrain_for: [brew]}", "expected no poisons beside retrain: false"),
        ("expectations.0.rate=0.3", "expectations.0.rate: expected one of 0.1, got '0.3'"),
        ("expectations.0.poison=none", "expectations.0.poison: expected one of backdoor, brew, got 'none'"),
        ("expectations.0.condition=target", "expectations.0.condition: expected one of clean, trigger, got 'target'"),
        ("expectations.0.poison=null", "expected poison and rate together"),
        ("expectations=[{model: baseline, metric: clean_accuracy_drop, at_most: 0}]", "expected a poison beside"),
        ("expectations.1.condition=trigger", "expected no attack or condition beside 'clean_accuracy_drop', got 'trigger'"),
        ("expectations=[{model: baseline, condition: trigger, metric: accuracy, at_most: 0}]", "expected a poison and no attack"),
    ],
)
def test_a_bad_suite_is_refused_with_its_place(folder: Path, override: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        suite_of(folder, HARDENED, override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("poisons.backdoor.target_class=ten", "poisons.backdoor.target_class: expected one of the classes 0, 1"),
        (
            "poisons.backdoor.trigger.size=17",
            "poisons.backdoor.trigger: expected a trigger within 16 pixels, got one that needs 17",
        ),
        ("poisons.more={name: backdoor, target_class: 3, rates: [0.95]}", "poisons.more.rates: too few examples for the rate"),
        ("poisons.more={name: label_flip, rates: [0.0001]}", "poisons.more.rates: expected a rate of one example at least"),
        ("poisons.brew.n_targets=4000", "poisons.brew.n_targets: expected at most"),
    ],
)
def test_a_poison_that_does_not_fit_the_data_is_refused_before_any_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, override: str, message: str
) -> None:
    monkeypatch.setattr(Train, "run", lambda *_: pytest.fail("trained"))
    with pytest.raises(SuiteError, match=message):
        run(suite_of(folder, override), out=folder / "refused", store=folder / "refused-store", device="cpu")
    assert not (folder / "refused").exists()


def test_random_labels_have_no_success_to_expect(folder: Path) -> None:
    expected = "{model: baseline, poison: noise, rate: 0.05, condition: target, metric: attack_success_rate, at_most: 1}"
    with pytest.raises(SuiteError, match=r"expectations\.0\.condition: expected one of clean, got 'target'"):
        suite_of(folder, NOISE, f"expectations=[{expected}]")


def test_a_target_class_without_examples_is_refused(folder: Path, digits: ImageData) -> None:
    train = digits.splits["train"]
    others = take(train, np.flatnonzero(train.labels != 3))
    message = "poisons.backdoor.target_class: expected a class with training examples, got '3' that has none"
    with pytest.raises(SuiteError, match=message):
        plan_of(suite_of(folder), replace(digits, splits={**digits.splits, "train": others}))


def test_source_classes_without_test_examples_are_refused_before_any_training(folder: Path, digits: ImageData) -> None:
    test = digits.splits["test"]
    data = replace(digits, splits={**digits.splits, "test": take(test, np.flatnonzero(test.labels != 5))})
    message = "poisons.backdoor: expected test examples that can carry the trigger, got none of the source classes"
    with pytest.raises(SuiteError, match=message):
        plan_of(suite_of(folder, "poisons.backdoor.source_classes=[5]"), data)
