"""The command line, in-process and on a tiny suite: exit codes, one-line errors, readable output."""

import json
import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest

from harness.cli.console import log_to_console
from harness.cli.main import main
from harness.steps.train import Train
from tests.running.test_runner import TINY


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a suite and its finished run."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("run", "tiny.yaml", "--device", "cpu") == 0
    return folder


@pytest.fixture
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def call(*arguments: str) -> int:
    """Runs a verb and returns its exit code."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def test_run_writes_results_below_the_working_directory(there: Path) -> None:
    assert (there / "results" / "tiny" / "report.html").is_file()
    assert (there / "results" / ".store").is_dir()


def test_list_names_suites_and_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list") == 0
    rows = [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()]
    assert ["suites", "quickstart"] in rows
    assert ["attacks", "pgd"] in rows
    assert ["recipes", "standard"] in rows


def test_list_of_one_family_has_only_that_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", "datasets") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert {row.split("\t")[0] for row in rows} == {"datasets"}


def test_validate_counts_cells(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("validate", "tiny.yaml") == 0
    assert "2 models, 10 cells, 0 skipped" in capsys.readouterr().out


def test_plan_tells_finished_steps_from_missing_ones(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", "tiny.yaml", "--set", "attacks.pgd.steps=5") == 0
    states = [
        line.split("\t")[-1]
        for line in capsys.readouterr().out.splitlines()
        if line.split("\t")[0] in ("train", "clean", "attack")
    ]
    assert states.count("missing") == 2
    assert states.count("finished") == 6


def test_verify_finds_no_damage_then_damage(there: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("verify", "tiny.yaml") == 0
    payload = next((there / "results" / ".store" / "clean").glob("*/outcome.safetensors"))
    content = payload.read_bytes()
    payload.write_bytes(content[:-1])
    assert call("verify", "tiny.yaml") == 1
    payload.write_bytes(content)
    assert "1 damaged files" in capsys.readouterr().out
    assert tmp_path.is_dir()


def test_show_prints_what_a_digest_was_taken_over(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = next((there / "results" / ".store" / "train").iterdir()).name
    assert call("show", digest[:10]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["digest"] == digest
    assert shown["spec"]["identity"]["recipe"]["name"] in ("standard", "pgd")


def test_show_finds_a_cell_by_its_digest(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = pd.read_csv(there / "results" / "tiny" / "cells.csv").iloc[0]
    assert call("show", cell["digest"][:12]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == cell["model"]


def test_show_takes_a_cell_in_a_copied_folder_once_and_damaged_tables_for_none(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = pd.read_csv(there / "results" / "tiny" / "cells.csv").iloc[0]
    shutil.copytree(there / "results" / "tiny", there / "results" / "backup")
    shutil.copytree(there / "results" / "tiny", there / "results" / "damaged")
    (there / "results" / "damaged" / "cells.csv").write_text("")
    assert call("show", cell["digest"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["digest"] == cell["digest"]
    assert "damaged/cells.csv: expected a table of a run" in printed.err
    for name in ("backup", "damaged"):
        shutil.rmtree(there / "results" / name)


def test_show_finds_a_cell_in_results_wherever_the_store_is(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = pd.read_csv(there / "results" / "tiny" / "cells.csv").iloc[0]
    assert call("show", cell["digest"], "--store", "far/away") == 0
    assert json.loads(capsys.readouterr().out)["model"] == cell["model"]


def test_run_in_which_nothing_finished_says_so(
    there: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no luck")

    monkeypatch.setattr(Train, "run", broken)
    assert call("run", "tiny.yaml", "--device", "cpu", "--set", "seed=9") == 1
    assert "nothing finished, so the earlier results in results/tiny stay as they are" in capsys.readouterr().out
    (there / "results" / "tiny" / "errors.log").unlink()


def test_log_is_one_plain_line_a_message_where_nobody_looks_at_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_console(verbose=False)
    logging.getLogger("harness.test").error("many words " * 20 + "[red]end[/red]")
    assert capsys.readouterr().err == f"ERROR: {'many words ' * 20}[red]end[/red]\n"


def test_report_is_written_anew_from_the_tables(there: Path) -> None:
    page = there / "results" / "tiny" / "report.html"
    page.unlink()
    assert call("report", "tiny.yaml") == 0
    assert page.is_file()


def test_report_of_one_suite_does_not_take_the_folder_of_another(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (there / "second.yaml").write_text((there / "tiny.yaml").read_text().replace("name: tiny", "name: second", 1))
    page = (there / "results" / "tiny" / "report.html").stat().st_mtime_ns
    for verb in (["report"], ["run", "--device", "cpu"]):
        assert call(verb[0], "second.yaml", "--out", "results/tiny", *verb[1:]) == 2
        assert "results/tiny: expected the results of the suite second, found those of tiny" in capsys.readouterr().err
    assert (there / "results" / "tiny" / "report.html").stat().st_mtime_ns == page


def test_leaderboard_of_runs_is_written_as_table_page_and_markdown(there: Path) -> None:
    assert call("leaderboard", "results/tiny", "--out", "board.csv", "--html", "--markdown") == 0
    board = pd.read_csv(there / "board.csv")
    assert (len(board), set(board["suite"])) == (2, {"tiny"})
    assert board.loc[0, "model"] in (there / "board.html").read_text()
    assert (there / "board.md").read_text().count("\n| ") == 3


def test_leaderboard_of_a_run_twice_is_an_error_of_one_line(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("leaderboard", "results/tiny", "results/tiny", "--out", "twice.csv") == 2
    assert "expected each model once, found duplicates" in capsys.readouterr().err
    assert not (there / "twice.csv").exists()


def test_compare_of_a_run_with_itself_agrees(there: Path) -> None:
    assert call("compare", "results/tiny", "results/tiny") == 0


def test_expectation_that_does_not_hold_exits_with_one(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expectation = "expectations=[{model: baseline, metric: clean_accuracy, at_most: 0.0}]"
    assert call("run", "tiny.yaml", "--device", "cpu", "--out", "other", "--set", expectation) == 1
    assert "does not hold" in capsys.readouterr().out


def test_doctor_finds_this_installation_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor") == 0
    assert "torch\tok" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quikstart"], "expected one of"),
        (["run", "none.yaml"], "nothing there"),
        (["validate", "tiny.yaml", "--set", "attacks.pgd.steps=0"], "attacks.pgd.steps: expected a number >= 1, got 0"),
        (["run", "tiny.yaml", "--device", "quantum"], "device: expected auto"),
        (["run", "tiny.yaml", "--devices", "0"], "devices: expected a number >= 1, got 0"),
        (["show", "ab"], "at least 4 digits"),
        (["show", "ffffffffffff"], "found nothing"),
        (["list", "attack"], "family: expected one of"),
        (["leaderboard", "nowhere", "--out", "x.csv"], "nowhere"),
        (["compare", "results/tiny", "nowhere"], "nowhere"),
        (["report", "nowhere.yaml"], "nothing there"),
        (["report", "x" * 300], "File name too long"),
        (["validate", "tiny.yaml", "--set", "architecture=efficientnet_bo"], "tiny.yaml: architecture.arch: timm has no model"),
        (["plan", "tiny.yaml", "--set", "architecture=nosuch.sub:f"], "tiny.yaml: architecture.factory: nosuch.sub:f cannot be"),
        (["plan", "tiny.yaml", "--set", "architecture.weights=no.h5"], "tiny.yaml: architecture.weights: no.h5: expected a file"),
        (
            ["plan", "tiny.yaml", "--set", "dataset={name: image_folder, root: nowhere}"],
            "tiny.yaml: dataset.root: nowhere: expected a folder of images, found nothing",
        ),
        (["run", "tiny.yaml", "--device", "cpu", "--out", "tiny.yaml"], "tiny.yaml: the results cannot be written"),
    ],
)
def test_bad_input_is_one_or_two_lines_and_exit_code_two(
    there: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert call(*arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) <= 2
    assert "Traceback" not in printed.err


def test_debug_shows_the_traceback(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "quikstart", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_unexpected_error_is_one_line_and_a_code_of_its_own(
    there: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.doctor.examine", lambda: 1 // 0)
    assert call("doctor") == 70
    assert "unexpected ZeroDivisionError" in capsys.readouterr().err


def test_path_that_may_not_be_read_is_bad_input(
    there: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "results/mine")

    monkeypatch.setattr("harness.cli.doctor.examine", refuse)
    assert call("doctor") == 2
    assert capsys.readouterr().err == "harness: results/mine: expected a usable path, found Permission denied\n"


def test_verify_of_an_empty_store_is_no_success(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", "tiny.yaml", "--store", "nowhere") == 1
    assert "0 of 8 steps finished" in capsys.readouterr().out


def test_several_jobs_give_the_numbers_of_one(there: Path) -> None:
    assert call("run", "tiny.yaml", "--device", "cpu", "--jobs", "2", "--store", "jobs-store", "--out", "jobs") == 0
    measured = ["seconds", "peak_memory_mb"]
    one, two = (
        pd.read_csv(there / folder / "cells.csv").drop(columns=measured, errors="ignore") for folder in ("results/tiny", "jobs")
    )
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_training_shared_by_processes_is_a_step_of_its_own(there: Path, jobs: str) -> None:
    one_model = "models={baseline: {recipe: {name: standard, epochs: 1, batch_size: 64}}}"
    changes = ("--set", one_model, "--set", "expectations=[]", "--devices", "2", "--jobs", jobs)
    assert (
        call("run", "tiny.yaml", "--device", "cpu", "--store", f"shared-store-{jobs}", "--out", f"shared-{jobs}", *changes) == 0
    )
    assert set(pd.read_csv(there / f"shared-{jobs}" / "cells.csv")["status"]) == {"done"}
    (meta,) = (there / f"shared-store-{jobs}" / "train").glob("*/meta.json")
    assert json.loads(meta.read_text())["spec"]["identity"]["devices"] == 2
