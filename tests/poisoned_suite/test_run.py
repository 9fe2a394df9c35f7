"""The suite run end to end: its tables, manifests and samples, what a second run reuses, and what damage costs."""

import json
import runpy
import shutil
from pathlib import Path

import pandas as pd
import pytest

from harness import load_results
from harness.images import ImageData
from harness.poisoning.manifest import Manifest
from harness.records import Status
from harness.running.runner import RunSummary, run
from harness.steps.detect import Detect
from harness.suites.files import load_suite
from tests.conftest import SHARED
from tests.poisoned_suite.suite import FLIP, SUITE, suite_of

CHECK = SHARED / "check_artifacts.py"


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws no figures, where only numbers are looked at."""
    monkeypatch.setattr("harness.running.runner.write_report", lambda folder: folder)


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
def test_damaged_poison_is_made_anew(
    folder: Path, finished: RunSummary, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder / "store", tmp_path / "store")
    damaged = [path for path in (tmp_path / "store" / "poison").glob(f"*/{name}") if "gradient_matching" in manifest_of(path)]
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-100])
    summary = run(suite_of(folder), out=tmp_path / "out", store=tmp_path / "store", device="cpu")
    assert summary.ok == finished.ok
    assert sum(f"its stored result is damaged ({name})" in line for line in caplog.messages) == len(damaged)
    before, after = (load_results(it.folder).poisons.set_index("poison") for it in (finished, summary))
    assert list(after.index) == list(before.index)
    assert after.loc["brew", "poisoned"].tolist() == before.loc["brew", "poisoned"].tolist()
    assert load_results(summary.folder).cells["accuracy"].notna().all()


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
