"""A tiny suite, run end to end in-process: resume, failure, interruption, digests."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from harness import load_results
from harness.errors import HarnessError
from harness.planning.plan import plan_of
from harness.records import Status
from harness.running.runner import RunSummary, run
from harness.steps.evaluate import Sweep
from harness.steps.train import Train
from harness.suites.files import load_suite
from harness.suites.suite import Suite
from tests.nets import ON_DIGITS

TINY = (
    f"name: tiny{ON_DIGITS}"
    + """
models:
  baseline: {recipe: {name: standard, epochs: 2, batch_size: 64}}
  hardened: {recipe: {name: pgd, eps: 16/255, steps: 2, epochs: 1, batch_size: 64}, warm_start: baseline}
threat_model: {norm: Linf, eps: [4/255, 16/255]}
attacks:
  fgsm: {name: fgsm}
  pgd: {name: pgd, steps: 2}
evaluation: {limit: 60}
expectations:
  - {model: baseline, metric: clean_accuracy, at_least: 0.3}
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def tiny(folder: Path, *overrides: str) -> Suite:
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    return load_suite(path, overrides)


def run_in(folder: Path, suite: Suite, *, store: str = "store", out: str = "out") -> RunSummary:
    return run(suite, out=folder / out, store=folder / store, device="cpu")


@pytest.fixture(scope="module")
def first(folder: Path) -> RunSummary:
    return run_in(folder, tiny(folder))


def statuses(summary: RunSummary) -> set[Status]:
    return {cell.status for cell in summary.record.cells}


def test_run_fills_every_cell_and_writes_every_table(first: RunSummary) -> None:
    assert first.ok
    assert statuses(first) == {Status.DONE}
    assert len(load_results(first.folder).cells) == 2 * (1 + 2 * 2)
    assert (first.folder / "report.html").is_file()


def test_second_run_recomputes_nothing_and_gives_the_same_numbers(folder: Path, first: RunSummary) -> None:
    again = run_in(folder, tiny(folder), out="again")
    assert statuses(again) == {Status.CACHED}
    same = [pd.read_csv(summary.folder / "cells.csv").drop(columns="status") for summary in (first, again)]
    pd.testing.assert_frame_equal(*same)


def test_one_changed_attack_parameter_recomputes_that_attack_only(folder: Path, first: RunSummary) -> None:
    assert first.ok
    changed = run_in(folder, tiny(folder, "attacks.pgd.steps=3"), out="changed")
    done = {cell.cell.attack for cell in changed.record.cells if cell.status is Status.DONE}
    assert done == {"pgd"}


def test_renamed_model_and_moved_device_settings_keep_their_digests(folder: Path) -> None:
    suite = tiny(folder)
    data = suite.dataset.load()
    renamed = load_suite_with_names(folder, baseline="plain")
    batched, alone = tiny(folder, "evaluation.batch_size=7"), tiny(folder, "devices=1")
    digests = [[step.digest for step in plan_of(variant, data).steps] for variant in (suite, renamed, batched, alone)]
    assert digests == [digests[0]] * 4


def load_suite_with_names(folder: Path, *, baseline: str) -> Suite:
    path = folder / "renamed.yaml"
    path.write_text(TINY.replace("baseline", baseline))
    return load_suite(path)


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "devices=2",
        "models.baseline.recipe.epochs=3",
        "dataset.resolution=8",
        "attacks.pgd.steps=4",
        "evaluation.limit=61",
    ],
)
def test_whatever_changes_a_number_changes_a_digest(folder: Path, override: str) -> None:
    suite, changed = tiny(folder), tiny(folder, override)
    digests = [{step.digest for step in plan_of(variant, variant.dataset.load()).steps} for variant in (suite, changed)]
    assert digests[0] != digests[1]


def test_no_two_cells_share_a_digest(folder: Path) -> None:
    suite = tiny(folder)
    cells = plan_of(suite, suite.dataset.load()).cells
    assert len({cell.digest for cell in cells}) == len(cells)


def test_failed_step_leaves_no_accuracy_and_the_rest_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Sweep.run

    def broken(self: Sweep, *arguments: object) -> None:
        if self.label == "fgsm" and self.model.label == "baseline":
            raise RuntimeError("out of luck")
        original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Sweep, "run", broken)
    summary = run_in(folder, tiny(folder, "seed=3"), store="failing", out="failing-out")
    assert not summary.ok
    cells = load_results(summary.folder).cells
    failed = cells[cells["status"] == "failed"]
    assert list(failed["attack"]) == ["fgsm", "fgsm"]
    assert failed["accuracy"].isna().all()
    assert failed["reason"].str.contains("out of luck").all()
    assert cells[cells["status"] == "done"]["accuracy"].notna().all()
    assert "RuntimeError: out of luck" in (summary.folder / "errors.log").read_text()


def test_damaged_result_is_named_and_not_silently_computed_again(folder: Path, first: RunSummary) -> None:
    assert first.ok
    shutil.copytree(folder / "store", folder / "damaged")
    outcome = next((folder / "damaged" / "clean").glob("*/outcome.safetensors"))
    outcome.write_bytes(outcome.read_bytes()[:-1])
    summary = run_in(folder, tiny(folder), store="damaged", out="damaged-out")
    assert not summary.ok
    (failed,) = [cell for cell in summary.record.cells if cell.status is Status.FAILED]
    assert str(outcome.parent) in failed.reason
    assert (summary.folder / "report.html").is_file()


def test_what_depends_on_a_failed_step_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Train, *_: object) -> None:
        raise ValueError(f"no luck with {self.label}")

    monkeypatch.setattr(Train, "run", broken)
    summary = run_in(folder, tiny(folder, "seed=4"), store="broken", out="broken-out")
    assert statuses(summary) == {Status.NOT_RUN}
    assert {cell.reason for cell in summary.record.cells} == {
        "not run: train baseline did not finish",
        "not run: train hardened did not finish",
    }


def test_run_in_which_nothing_finished_leaves_earlier_results_alone(
    folder: Path, first: RunSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no luck")

    shutil.copytree(first.folder, folder / "kept")
    monkeypatch.setattr(Train, "run", broken)
    summary = run_in(folder, tiny(folder, "seed=6"), store="fruitless", out="kept")
    assert not summary.written
    assert not summary.ok
    assert (folder / "kept" / "cells.csv").read_bytes() == (first.folder / "cells.csv").read_bytes()
    assert "no luck" in (folder / "kept" / "errors.log").read_text()


def test_results_folder_that_cannot_be_written_stops_a_run_before_it_computes(folder: Path) -> None:
    (folder / "taken").write_text("a file")
    with pytest.raises(HarnessError, match="taken: the results cannot be written"):
        run_in(folder, tiny(folder, "seed=7"), store="unused", out="taken")
    assert not (folder / "unused").exists()


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def stopped(self: Sweep, *_: object) -> None:
        raise KeyboardInterrupt(self.label)

    monkeypatch.setattr(Sweep, "run", stopped)
    return monkeypatch


def test_interrupted_run_keeps_what_is_finished_and_goes_on_later(folder: Path, interrupting: pytest.MonkeyPatch) -> None:
    suite = tiny(folder, "seed=5")
    stopped = run_in(folder, suite, store="interrupted", out="interrupted-out")
    assert stopped.interrupted
    assert not stopped.ok
    assert statuses(stopped) == {Status.DONE, Status.NOT_RUN}
    interrupting.undo()
    resumed = run_in(folder, suite, store="interrupted", out="interrupted-out")
    assert resumed.ok
    trained = [cell.status for cell in resumed.record.cells if cell.cell.condition == "clean" and cell.cell.model == "baseline"]
    assert trained == [Status.CACHED]
