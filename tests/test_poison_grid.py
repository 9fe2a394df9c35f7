"""Poisons, triggers, targets and detectors in a suite: the grid, its refusals, and a tiny run end to end."""

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import pytest

from harness import load_results
from harness.catalogue import catalogue
from harness.datasets.splits import take
from harness.errors import SuiteError
from harness.expectations import judge_expectations
from harness.grid import cells_of
from harness.images import ImageData
from harness.plan import Plan, plan_of
from harness.poisoning.base import POISONS
from harness.poisoning.label_flip import LabelFlip
from harness.poisoning.manifest import Manifest
from harness.records import Status
from harness.runner import RunSummary, run
from harness.steps.conditions import Targeted
from harness.steps.detect import Detect
from harness.steps.poison import Poisoning
from harness.steps.train import Train
from harness.suite import Suite, Variant
from harness.suite_files import load_suite
from tests.conftest import SHARED

CHECK = SHARED / "check_artifacts.py"
SUITE = """
name: poisoned
dataset: {name: digits, resolution: 16}
architecture: {name: factory, factory: "tests.nets:small_convnet", mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
models:
  baseline: {recipe: {name: standard, epochs: 3, batch_size: 32, optimiser: {learning_rate: 0.01}}}
poisons:
  backdoor: {name: backdoor, target_class: 3, trigger: {kind: patch, size: 5}, rates: [0.1]}
  brew: {name: gradient_matching, target_class: 3, steps: 10, rates: [0.01], seeds: 2}
detectors:
  clustering: {name: activation_clustering}
  strip: {name: strip, overlays: 2}
threat_model: {eps: [8/255]}
attacks:
  fgsm: {name: fgsm}
evaluation: {limit: 50}
expectations:
  - {model: baseline, poison: backdoor, rate: 0.1, condition: trigger, metric: attack_success_rate, at_least: 0.5}
  - {model: baseline, poison: backdoor, rate: 0.1, metric: clean_accuracy_drop, at_most: 0.3}
  - {model: baseline, poison: brew, rate: 0.01, condition: target, metric: attack_success_rate, at_most: 1}
"""


FLIP = "poisons.flip={name: label_flip, source_class: 4, target_class: 9, rates: [0.08]}"
NOISE = "poisons.noise={name: label_flip, rates: [0.05]}"
HARDENED = "models.hardened={recipe: {name: pgd, eps: 8/255, epochs: 1}, warm_start: baseline, poisons: [backdoor]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("poisoned")


def suite_of(folder: Path, *overrides: str) -> Suite:
    path = folder / "poisoned.yaml"
    path.write_text(SUITE)
    return load_suite(path, overrides)


@pytest.fixture(scope="module")
def digits(folder: Path) -> ImageData:
    return suite_of(folder).dataset.load()


@pytest.fixture(scope="module")
def plan(folder: Path, digits: ImageData) -> Plan:
    return plan_of(suite_of(folder, HARDENED), digits)


def test_every_model_is_also_trained_on_every_poison_it_names(folder: Path) -> None:
    brews = [Variant("baseline", "brew", 0.01, repetition) for repetition in (0, 1)]
    clean, backdoored = ([Variant(model, *poison) for model in ("baseline", "hardened")] for poison in ((), ("backdoor", 0.1)))
    assert suite_of(folder, HARDENED).variants() == (clean[0], backdoored[0], *brews, clean[1], backdoored[1])


def test_a_poisoned_model_has_a_row_for_its_trigger_or_its_targets(folder: Path) -> None:
    rows = [
        (row.cell.poison, row.cell.condition, row.cell.seed) for row in cells_of(suite_of(folder)) if row.cell.model == "baseline"
    ]
    clean = [(None, "clean", 0), (None, "attack", 0)]
    backdoor = [("backdoor", condition, 0) for condition in ("clean", "trigger", "attack")]
    brews = [("brew", "clean", 0), ("brew", "target", 0), ("brew", "attack", 0), ("brew", "clean", 1), ("brew", "target", 1)]
    assert rows == [*clean, *backdoor, *brews]


def test_a_flip_between_classes_has_a_row_for_its_success_and_random_labels_have_none(folder: Path) -> None:
    rows = cells_of(suite_of(folder, FLIP, NOISE))
    found = [(row.cell.poison, row.cell.condition, row.cell.target_class) for row in rows if row.cell.poison in ("flip", "noise")]
    flip = [("flip", condition, "9") for condition in ("clean", "target", "attack")]
    assert found == [*flip, *(("noise", condition, None) for condition in ("clean", "attack"))]


def test_repetitions_differ_in_seed_poison_and_training_but_not_in_what_is_judged(plan: Plan) -> None:
    first, second = (plan.training[Variant("baseline", "brew", 0.01, repetition)] for repetition in (0, 1))
    assert (first.seed, second.seed) == (0, 1)
    assert first.poison is not None
    assert second.poison is not None
    assert first.poison.digest != second.poison.digest
    assert len({cell.digest for cell in plan.cells}) == len(plan.cells)


def test_crafting_uses_the_first_model_trained_on_clean_data(plan: Plan) -> None:
    step = plan.training[Variant("baseline", "brew", 0.01)].poison
    assert step is not None
    assert step.proxy is plan.training[Variant("baseline")]


def test_a_poisoned_warm_start_is_poisoned_too(plan: Plan) -> None:
    hardened = plan.training[Variant("hardened", "backdoor", 0.1)]
    assert hardened.warm_start is plan.training[Variant("baseline", "backdoor", 0.1)]
    assert hardened.poison == hardened.warm_start.poison


def test_a_detector_looks_at_the_first_model_and_is_compared_with_its_clean_twin(plan: Plan) -> None:
    looked = [(row.cell.model, row.cell.poison, row.cell.seed, row.label) for row in plan.detections]
    variants = (("backdoor", 0), ("brew", 0), ("brew", 1))
    assert looked == [("baseline", poison, seed, label) for poison, seed in variants for label in ("clustering", "strip")]
    twins = [(row.cell.seed, row.control.model.label) for row in plan.detections if row.control is not None]
    assert set(twins) == {(0, "baseline"), (1, "baseline, repetition 1")}


def test_a_repetition_is_compared_with_a_clean_twin_of_its_own_seed(plan: Plan) -> None:
    rows = [row for row in plan.cells if row.cell.condition == "target"]
    twins = [row.step.twin for row in rows if isinstance(row.step, Targeted)]
    assert [(twin.seed, twin.poison) for twin in twins] == [(row.cell.seed, None) for row in rows] == [(0, None), (1, None)]
    assert twins[0] is plan.training[Variant("baseline")]
    controls = {row.control.digest for row in plan.detections if row.control is not None and row.label == "clustering"}
    assert len(controls) == 2
    assert Variant("baseline", repetition=1) not in plan.training


def test_every_repetition_has_the_clean_row_of_its_twin_beside_the_grid(folder: Path, digits: ImageData) -> None:
    plan = plan_of(suite_of(folder, HARDENED, "poisons.backdoor.seeds=3", "detectors={}"), digits)
    twins = [(row.cell.model, row.cell.seed, row.cell.poison, row.cell.condition) for row in plan.twins]
    assert twins == [(model, seed, None, "clean") for model in ("baseline", "hardened") for seed in (1, 2)]
    steps = [row.step for row in plan.twins]
    assert [step.inputs["model"].title for step in steps if step is not None] == [
        f"train {model}, repetition {number}" for model in ("baseline", "hardened") for number in (1, 2)
    ]
    assert {step.digest for step in steps if step is not None} <= {step.digest for step in plan.steps}


def test_what_is_trained_anew_starts_from_weights_that_were_filtered_too(folder: Path, digits: ImageData) -> None:
    plan = plan_of(suite_of(folder, HARDENED, "detectors.clustering.models=[hardened]"), digits)
    step = next(row for row in plan.detections if row.label == "clustering").after[0].step
    assert step is not None
    anew = step.inputs["model"]
    assert isinstance(anew, Train)
    assert anew.filtered_by is not None
    assert anew.warm_start is not None
    assert anew.warm_start.filtered_by == anew.filtered_by
    assert anew.filtered_by.model is plan.training[Variant("hardened", "backdoor", 0.1)]


def test_a_run_time_detector_is_skipped_where_nothing_comes_in_changed(plan: Plan) -> None:
    strip = {row.cell.poison: row for row in plan.detections if row.label == "strip"}
    assert strip["backdoor"].skip is None
    assert strip["backdoor"].after == ()
    assert strip["brew"].skip == "strip judges images as they come in, and gradient_matching changes none of them"


def test_without_retraining_a_detector_is_only_scored(folder: Path, digits: ImageData) -> None:
    plan = plan_of(suite_of(folder, "detectors.clustering.retrain=false"), digits)
    assert all(row.after == () for row in plan.detections)
    assert sum(isinstance(step, Detect) for step in plan.steps) == 3 + 1 + 2 + 1


def test_what_a_detector_leaves_is_trained_on_for_the_poisons_that_are_named(folder: Path, digits: ImageData) -> None:
    plan = plan_of(suite_of(folder, "detectors.clustering.retrain_for=[backdoor]"), digits)
    anew = {(row.cell.poison, row.cell.seed): bool(row.after) for row in plan.detections if row.label == "clustering"}
    assert anew == {("backdoor", 0): True, ("brew", 0): False, ("brew", 1): False}
    assert all(row.step is not None for row in plan.detections if row.label == "clustering")


def test_the_shipped_suite_trains_for_minutes_and_leaves_out_no_kind_of_poison_or_detector() -> None:
    suite = load_suite("poisoning")
    plan = plan_of(suite, suite.dataset.load())
    trainings = [step for step in plan.steps if isinstance(step, Train)]
    assert sum(step.recipe.epochs for step in trainings) <= 120
    flips = [entry.plugin for entry in suite.poisons.values() if isinstance(entry.plugin, LabelFlip)]
    assert {flip.is_targeted for flip in flips} == {True, False}
    assert {"backdoor", "clean_label_backdoor", "gradient_matching"} <= {entry.plugin.name for entry in suite.poisons.values()}
    assert max(entry.seeds for entry in suite.poisons.values()) >= 3
    anew = {row.cell.poison for row in plan.detections if row.after}
    assert anew == {"backdoor", "fours_to_nines"}
    assert {row.cell.poison for row in plan.detections if row.step is not None} == set(suite.poisons)
    assert [row.cell.poison_rate for row in plan.cells if (row.cell.model, row.cell.condition) == ("pgd", "trigger")] == [
        0.01,
        0.05,
        0.1,
    ]


class Unmakeable(LabelFlip):
    """A poison that never runs."""

    name: Literal["unmakeable"] = "unmakeable"  # type: ignore[assignment]
    NEEDS_MODEL: ClassVar[bool] = True

    def supports(self, data: ImageData, rate: float, model: object) -> str | None:
        return None if model is None else "it takes a full moon"


def test_a_poison_that_cannot_be_made_skips_its_cells_with_the_reason(
    folder: Path, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(POISONS, "_registered", {**POISONS._registered, "unmakeable": Unmakeable})
    plan = plan_of(suite_of(folder, "poisons.moon={name: unmakeable, rates: [0.1]}"), digits)
    cells = [cell for cell in plan.cells if cell.cell.poison == "moon"]
    assert {cell.skip for cell in cells} == {"it takes a full moon"}
    assert {row.skip for row in plan.detections if row.cell.poison == "moon"} == {"it takes a full moon"}
    assert not [step for step in plan.steps if isinstance(step, Poisoning) and step.label == "moon"]


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


def test_families_of_poisons_and_detectors_are_listed() -> None:
    assert {"backdoor", "gradient_matching"} <= {name for _, name, _ in catalogue("poisons")}
    assert {"activation_clustering", "strip"} <= {name for _, name, _ in catalogue("detectors")}
    assert {"fog"} <= {name for _, name, _ in catalogue("corruptions")}


def planted(**columns: list[object]) -> pd.DataFrame:
    rows = {"model": "baseline", "poison": None, "poison_rate": np.nan, "condition": "clean", "attack": "none", "eps": np.nan}
    count = max(map(len, columns.values()))
    return pd.DataFrame(rows | columns, index=range(count))


def test_expectations_speak_of_the_mean_over_repetitions_and_of_their_clean_twins(folder: Path) -> None:
    cells = planted(
        condition=["clean", "clean", "clean", "trigger", "trigger"],
        poison=[None, *["backdoor"] * 4],
        poison_rate=[np.nan, *[0.1] * 4],
        clean_accuracy=[0.9, 0.8, 0.7, 0.6, 0.6],
        attack_success_rate=[np.nan, np.nan, np.nan, 0.3, 0.5],
    )
    poisons = planted(poison=["backdoor"] * 2, poison_rate=[0.1] * 2, clean_accuracy_drop=[0.1, 0.2])
    success, drop, targets = judge_expectations(suite_of(folder).expectations, cells, poisons)
    assert (success.holds, success.found) == (False, "baseline: 0.400")
    assert (drop.holds, drop.found) == (True, "baseline: 0.150")
    assert targets.holds is None
    assert drop.text == "clean_accuracy_drop of baseline, backdoor 10 %, on clean images is at most 0.3"


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws no figures, where only numbers are looked at."""
    monkeypatch.setattr("harness.runner.write_report", lambda folder: folder)


@pytest.fixture(scope="module")
def finished(folder: Path) -> RunSummary:
    return run(suite_of(folder), out=folder / "out", store=folder / "store", device="cpu")


def test_the_run_fills_every_cell_and_every_detection(finished: RunSummary) -> None:
    assert {cell.status for cell in finished.record.cells} == {Status.DONE}
    assert [row.status for row in finished.record.detections].count(Status.SKIPPED) == 2
    assert finished.ok
    results = load_results(finished.folder)
    assert len(results.poisons) == 3
    assert len(results.detectors) == 6
    assert {"poisons", "detectors"} <= set(results.folder.joinpath("report.html").read_text().split('"'))


def test_the_folder_keeps_the_contract(finished: RunSummary) -> None:
    if not CHECK.is_file():
        pytest.skip("needs ../shared/check_artifacts.py")
    assert runpy.run_path(str(CHECK))["shortfalls"](finished.folder) == []


def test_cells_of_triggers_and_targets_name_the_examples_they_judged(finished: RunSummary, digits: ImageData) -> None:
    results, test = load_results(finished.folder), digits.splits["test"]
    samples = results.samples
    names = {name: int(label) for name, label in zip(test.ids, test.labels, strict=True)}
    assert (samples["example_id"].map(names).astype(int) == samples["label"]).all()
    triggered = samples[samples["condition"] == "trigger"]
    assert set(triggered["example_id"]) == {name for name, label in names.items() if label != 3}
    manifest = Manifest.load(results.folder / results.poisons.set_index("poison").loc["brew", "manifest"].iloc[1])
    target = samples[(samples["condition"] == "target") & (samples["seed"] == 1)]
    assert list(target["example_id"]) == [aimed.id for aimed in manifest.targets]


def test_manifests_and_pictures_lie_beside_the_tables(finished: RunSummary) -> None:
    names = ("backdoor-0.1", "brew-0.01", "brew-0.01-seed-1")
    found = {path.name for path in (finished.folder / "poisons").iterdir()}
    assert found == {f"{name}{ending}" for name in names for ending in (".json", ".png")}
    manifest = json.loads((finished.folder / "poisons" / "backdoor-0.1.json").read_text())
    row = load_results(finished.folder).poisons.set_index("poison").loc["backdoor"]
    assert row["poisoned"] == len(manifest["examples"])
    assert row["realised_rate"] == manifest["realised_rate"]
    assert row["trigger_sha256"] == manifest["trigger_sha256"]


@pytest.mark.usefixtures("without_page")
def test_a_second_run_of_another_name_for_a_poison_computes_nothing_anew(folder: Path, finished: RunSummary) -> None:
    path = folder / "renamed.yaml"
    path.write_text(SUITE.replace("backdoor:", "badnets:").replace("poison: backdoor", "poison: badnets"))
    again = run(load_suite(path), out=folder / "renamed", store=folder / "store", device="cpu")
    assert {cell.status for cell in again.record.cells} == {Status.CACHED}
    columns = ["attack_success_rate", "manifest_digest", "clean_accuracy"]
    tables = [load_results(summary.folder).poisons[columns] for summary in (finished, again)]
    pd.testing.assert_frame_equal(*tables)


def test_a_repetition_costs_clean_accuracy_against_the_twin_of_its_own_seed(finished: RunSummary) -> None:
    (twin,) = finished.record.twins
    assert (twin.cell.seed, twin.status) == (1, Status.DONE)
    assert twin.clean_logits is not None
    of_twin = (twin.clean_logits.argmax(axis=1) == twin.labels).mean()
    rows = load_results(finished.folder).poisons
    row = rows[(rows["poison"] == "brew") & (rows["seed"] == 1)].iloc[0]
    assert row["clean_accuracy_drop"] == pytest.approx(of_twin - row["clean_accuracy"])


@pytest.mark.usefixtures("without_page")
def test_a_flip_between_classes_has_the_success_that_its_samples_show(folder: Path, finished: RunSummary) -> None:
    assert finished.ok
    summary = run(suite_of(folder, FLIP, "detectors={}"), out=folder / "flipped", store=folder / "store", device="cpu")
    results = load_results(summary.folder)
    row = results.poisons.set_index("poison").loc["flip"]
    samples = results.samples[(results.samples["poison"] == "flip") & (results.samples["condition"] == "target")]
    right = samples["clean_prediction"] == 4
    assert set(samples["label"]) == {4}
    assert row["eligible"] == right.sum() > 0
    assert row["attack_success_rate"] == pytest.approx((samples.loc[right, "prediction"] == 9).mean())
    cell = results.cells[(results.cells["poison"] == "flip") & (results.cells["condition"] == "target")].iloc[0]
    assert cell["attack_success_rate"] == row["attack_success_rate"]
    assert row["attack_success_rate_low"] <= row["attack_success_rate"] <= row["attack_success_rate_high"]


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize("name", ["manifest.json", "images.safetensors"])
def test_damaged_poison_loses_nothing_else(folder: Path, finished: RunSummary, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder / "store", tmp_path / "store")
    damaged = [path for path in (tmp_path / "store" / "poison").glob(f"*/{name}") if "gradient_matching" in manifest_of(path)]
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-100])
    summary = run(suite_of(folder), out=tmp_path / "out", store=tmp_path / "store", device="cpu")
    assert not summary.ok
    results = load_results(summary.folder)
    assert results.poisons.set_index("poison").loc["backdoor", "poisoned"] > 0
    assert results.poisons.set_index("poison").loc["brew", "poisoned"].isna().all()
    rows = results.cells[results.cells["poison"] != "brew"]
    assert rows["accuracy"].notna().all()
    assert any("is damaged" in line and name in line for line in summary.failures)


def manifest_of(neighbour: Path) -> str:
    return (neighbour.parent / "manifest.json").read_text()


@pytest.mark.usefixtures("without_page")
def test_a_detector_that_fails_is_no_success(folder: Path, finished: RunSummary, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finished.ok

    def broken(self: Detect, *_: object) -> None:
        raise RuntimeError("lost its head")

    monkeypatch.setattr(Detect, "run", broken)
    summary = run(
        suite_of(folder, "detectors.clustering.components=5"), out=folder / "broken", store=folder / "store", device="cpu"
    )
    assert not summary.ok
    rows = load_results(summary.folder).detectors.set_index("detector")
    assert set(rows.loc["clustering", "status"]) == {"failed"}
    assert set(rows.loc["clustering", "reason"]) == {"RuntimeError: lost its head"}
    assert rows.loc["clustering", ["auc", "suspected", "clean_accuracy_after"]].isna().all(axis=None)
    assert {cell.status for cell in summary.record.cells} == {Status.CACHED}
