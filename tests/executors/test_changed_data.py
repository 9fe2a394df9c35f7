"""Images that are written while a suite runs: what was computed over them is not kept under the digest of the others."""

from pathlib import Path

import pytest

from harness.records import CellResult, Status
from harness.running.runner import RunSummary, run
from harness.steps.base import Context, Step
from harness.steps.conditions import FromFolder
from harness.steps.evaluate import Evaluate
from harness.steps.train import Train
from harness.suites.files import load_suite
from harness.suites.suite import Suite
from tests.conftest import MakeFolder

SUITE = """
name: changing
dataset: {{name: image_folder, root: "{data}", resolution: 16}}
architecture: {{name: factory, factory: "tests.nets:small_convnet"}}
models: {{baseline: {{recipe: {{name: standard, epochs: 1, batch_size: 64}}}}}}
folders: {{street: {{root: "{street}"}}}}
"""


@pytest.fixture
def suite(make_folder: MakeFolder, tmp_path: Path) -> Suite:
    text = SUITE.format(data=make_folder("data"), street=make_folder("street", splits={"": 2}))
    (tmp_path / "changing.yaml").write_text(text)
    return load_suite(tmp_path / "changing.yaml")


def run_in(folder: Path, suite: Suite) -> RunSummary:
    return run(suite, out=folder / "out", store=folder / "store", device="cpu")


def cells_of(summary: RunSummary) -> dict[str, CellResult]:
    return {result.cell.condition: result for result in summary.record.cells}


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def after(step: type[Step], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has an image written when a step of a kind has computed its result."""
    compute = step.run

    def computing(self: Step, context: Context, folder: Path) -> None:
        compute(self, context, folder)
        rewrite(path)

    monkeypatch.setattr(step, "run", computing)


def test_step_over_data_that_changed_fails_and_is_computed_anew(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        after(Evaluate, tmp_path / "data/test/Leek/01.png", patch)
        broken = cells_of(run_in(tmp_path, suite))
    assert {result.status for result in broken.values()} == {Status.FAILED}
    assert broken["clean"].reason == (
        "the data changed while the suite ran: 1 of its images, such as test/Leek/01.png, were written; "
        "nothing is kept, run it again"
    )
    assert not list((tmp_path / "store").glob("clean/*/meta.json"))
    repeated = run_in(tmp_path, suite)
    assert repeated.ok
    assert {result.status for result in cells_of(repeated).values()} == {Status.DONE}
    assert {result.status for result in cells_of(run_in(tmp_path, suite)).values()} == {Status.CACHED}


def test_training_over_data_that_changed_is_not_kept(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after(Train, tmp_path / "data/train/Leek/01.png", monkeypatch)
    broken = run_in(tmp_path, suite)
    assert {result.status for result in broken.record.cells} == {Status.NOT_RUN}
    assert "data changed" in broken.failures[0]
    assert not list((tmp_path / "store").glob("*/*/meta.json"))


def test_folder_of_a_suite_is_watched_by_its_own_steps(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after(FromFolder, tmp_path / "street/Onion/00.jpg", monkeypatch)
    cells = cells_of(run_in(tmp_path, suite))
    assert (cells["clean"].status, cells["folder"].status) == (Status.DONE, Status.FAILED)
    assert "such as Onion/00.jpg" in cells["folder"].reason


def test_folder_that_changed_under_one_of_its_parts_says_so_and_is_computed_anew(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = suite.model_copy(update={"evaluation": suite.evaluation.model_copy(update={"shard": 3})})
    with monkeypatch.context() as patch:
        after(FromFolder, tmp_path / "street/Onion/00.jpg", patch)
        cells = cells_of(run_in(tmp_path, cut))
    assert (cells["clean"].status, cells["folder"].status) == (Status.DONE, Status.FAILED)
    assert cells["folder"].reason.startswith("part 1 of 2: the data changed while the suite ran")
    assert not list((tmp_path / "store").glob("folder/*/meta.json"))
    assert run_in(tmp_path, cut).ok


def test_skipped_files_are_in_the_provenance(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "data/test/Leek/a.heic").write_text("")
    assert run_in(tmp_path, suite).record.provenance["skipped_files"] == {"test": 1}
