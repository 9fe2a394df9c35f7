"""A tiny suite, run end to end in-process: resume, failure, interruption, digests."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from harness import load_results
from harness.errors import HarnessError, ModelError, StoreError
from harness.planning.plan import plan_of
from harness.records import Status
from harness.running.runner import RunSummary, run
from harness.steps.evaluate import Sweep
from harness.steps.train import Train
from harness.storage.store import sha256_of_file
from harness.suites.files import load_suite
from harness.suites.suite import Suite
from tests.nets import ON_DIGITS, small_convnet

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
    page = (first.folder / "report.html").read_text()
    assert '<section id="examples">' in page
    assert len(pd.read_csv(first.folder / "examples" / "sheet.csv")) == len(first.record.example_ids)


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


def without_key(record: Path) -> None:
    content = json.loads(record.read_text())
    del content["files"]
    record.write_text(json.dumps(content))


def cut(payload: Path) -> None:
    payload.write_bytes(payload.read_bytes()[:-2])


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is not what such a test looks at, and takes most of the time of a run without computing."""
    monkeypatch.setattr("harness.running.runner.write_report", lambda _: None)


@pytest.fixture
def copied(folder: Path, first: RunSummary, tmp_path: Path) -> Path:
    """A copy of the store of a finished run."""
    assert first.ok
    return shutil.copytree(folder / "store", tmp_path / "store")


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize(
    ("file", "damage"),
    [("outcome.safetensors", cut), ("outcome.safetensors", Path.unlink), ("meta.json", cut), ("meta.json", without_key)],
)
def test_damaged_result_is_set_aside_and_computed_anew(
    first: RunSummary, copied: Path, caplog: pytest.LogCaptureFixture, file: str, damage: Callable[[Path], None]
) -> None:
    hurt = next(copied.glob(f"clean/*/{file}"))
    damage(hurt)
    summary = run_in(copied, tiny(copied), out="out", store="")
    assert summary.ok
    assert [cell.cell.condition for cell in summary.record.cells if cell.status is Status.DONE] == ["clean"]
    (line,) = [line for line in caplog.messages if "damaged" in line]
    assert f"its stored result is damaged ({file}): computed anew; the old one lies in {copied}" in line
    same = [pd.read_csv(it.folder / "cells.csv").drop(columns=["status", "seconds", "peak_memory_mb"]) for it in (first, summary)]
    pd.testing.assert_frame_equal(*same)
    assert (hurt.parent / "outcome.safetensors").is_file()
    assert len(list((copied / ".damaged").iterdir())) == 1


@pytest.mark.usefixtures("without_page")
def test_result_that_cannot_be_read_is_a_failed_row_and_nothing_else_is_lost(copied: Path) -> None:
    entry = next((copied / "clean").iterdir())
    (entry / "outcome.safetensors").write_bytes(b"nothing")
    content = json.loads((entry / "meta.json").read_text())
    content["files"] = {"outcome.safetensors": sha256_of_file(entry / "outcome.safetensors")}
    (entry / "meta.json").write_text(json.dumps(content))
    summary = run_in(copied, tiny(copied), out="out", store="")
    assert not summary.ok
    (failed,) = [cell for cell in summary.record.cells if cell.status is Status.FAILED]
    assert failed.reason.startswith("its stored result cannot be read (")
    assert str(entry) in failed.reason
    assert len(summary.failures) == 1


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


@pytest.mark.usefixtures("without_page")
def test_plugin_that_calls_exit_is_a_failed_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sweep, "run", lambda *_: sys.exit(3))
    summary = run_in(folder, tiny(folder, "seed=8"), store="exits", out="exits-out")
    assert statuses(summary) == {Status.DONE, Status.FAILED}
    reasons = {cell.reason for cell in summary.record.cells if cell.status is Status.FAILED}
    assert reasons == {"SystemExit: expected a result, but sys.exit(3) was called"}


@pytest.mark.usefixtures("without_page")
def test_data_set_that_calls_exit_is_one_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = tiny(folder)
    monkeypatch.setattr(type(suite.dataset), "load", lambda _: sys.exit(0))
    with pytest.raises(HarnessError, match=r"expected a result, but sys.exit\(0\) was called"):
        run_in(folder, suite)


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


@pytest.mark.usefixtures("without_page")
def test_stop_keeps_the_rows_of_stored_steps_that_it_did_not_reach(
    folder: Path, first: RunSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    assert first.ok
    monkeypatch.setattr("harness.executors.local.found", stopped)
    summary = run_in(folder, tiny(folder, "attacks.pgd.steps=5"), out="stopped-out")
    assert summary.interrupted
    cached = {cell.cell.attack for cell in summary.record.cells if cell.status is Status.CACHED}
    assert cached == {"none", "fgsm"}
    assert {cell.cell.attack for cell in summary.record.cells if cell.status is Status.NOT_RUN} == {"pgd"}
    assert summary.failures == ("attack baseline with pgd and 1 more: not run: stopped before",)


@pytest.mark.usefixtures("without_page")
def test_stopped_model_without_attacks_has_no_rank(folder: Path, first: RunSummary, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Sweep.run

    def stopped(self: Sweep, *arguments: object) -> None:
        if self.model.label == "hardened":
            raise KeyboardInterrupt
        original(self, *arguments)  # type: ignore[arg-type]

    assert first.ok
    monkeypatch.setattr(Sweep, "run", stopped)
    suite = tiny(folder, "evaluation.limit=40")
    board = load_results(run_in(folder, suite, out="rankless").folder).leaderboard.set_index("model")
    assert board.loc["baseline", "rank"] == 1
    assert pd.isna(board.loc["hardened", "rank"])
    assert board.loc["hardened", "clean_accuracy"] > 0


def test_folder_of_another_suite_is_refused_before_anything_is_computed(folder: Path, first: RunSummary) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    other = tiny(folder).model_copy(update={"name": "other"})
    with pytest.raises(HarnessError, match=r"out: expected the results of the suite other, found those of tiny; name another"):
        run_in(folder, other, store="unused")
    assert {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before
    assert not (folder / "unused").exists()


def test_store_that_cannot_be_written_is_found_before_the_first_step(folder: Path) -> None:
    (folder / "no-store").write_text("a file")
    with pytest.raises(StoreError, match="no-store: the store cannot be written"):
        run_in(folder, tiny(folder, "seed=9"), store="no-store", out="no-store-out")


def test_weights_of_another_architecture_are_found_before_the_first_step(folder: Path, tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(4, 3, 7, 7)}, tmp_path / "other.safetensors")
    suite = tiny(folder, f"architecture.weights={tmp_path / 'other.safetensors'}")
    with pytest.raises(ModelError, match=r"other\.safetensors do not fit: .*1 unexpected \(conv\.weight\)"):
        run_in(folder, suite, store="misfit", out="misfit-out")
    assert not list((folder / "misfit").glob("*/*"))


@pytest.mark.usefixtures("without_page")
def test_files_can_be_read_by_those_whom_the_umask_lets(folder: Path) -> None:
    mask = os.umask(0o027)
    try:
        run_in(
            folder,
            tiny(folder, "models={only: {recipe: {name: standard, epochs: 1}}}", "expectations=[]"),
            store="shared",
            out="shared-out",
        )
    finally:
        os.umask(mask)
    modes = {
        path.stat().st_mode & 0o777 for top in ("shared", "shared-out") for path in (folder / top).rglob("*") if path.is_file()
    }
    assert modes == {0o640}


def test_a_run_is_fine_only_if_every_requirement_is_met(folder: Path, first: RunSummary) -> None:
    weights = first.record.provenance["models"]["baseline"]
    assert weights["sha256"] == sha256_of_file(folder / "store" / "train" / weights["training"] / weights["file"])
    for bound, met in ((0.1, True), (1.0, False)):
        required = f"requirements=[{{metric: clean_accuracy, model: baseline, at_least: {bound}}}]"
        summary = run_in(folder, tiny(folder, required), out="required")
        assert (summary.ok, summary.requirements_met) == (met, met)
        assert statuses(summary) == {Status.CACHED}
        (row,) = load_results(summary.folder).requirements.to_dict("records")
        assert row["outcome"] == ("MET" if met else "NOT MET")
        decision = json.loads((summary.folder / "decision.json").read_text())
        assert decision["models"][0]["verdict"] == ("SHIP" if met else "DO NOT SHIP")
        assert decision["models"][0]["files"][0]["sha256"] == weights["sha256"]


def test_what_is_said_of_a_file_of_weights_is_said_once(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file(small_convnet(7).state_dict(), tmp_path / "seven.safetensors")
    suite = tiny(
        folder,
        f"architecture.weights={tmp_path / 'seven.safetensors'}",
        "models={baseline: {recipe: {name: standard, epochs: 1, batch_size: 64}}}",
        "attacks={}",
        "expectations=[]",
    )
    assert run(suite, out=tmp_path / "out", store=tmp_path / "store", device="cpu").ok
    assert [record.message.partition(":")[0] for record in caplog.records if "head" in record.message] == [
        "the head is new, as the weights are for other classes"
    ]
