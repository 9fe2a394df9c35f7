"""Edited tables, examples and stored outcomes are noticed, and the entry is named."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.cli.main import main
from harness.records import Outcome
from harness.reports.decision.files import write_decision
from harness.reports.load import load_results
from harness.running.verification.findings import Findings
from harness.running.verification.rederive import verify_tables
from harness.running.verification.tables import ONLY_STORED
from harness.storage.store import Store
from tests.running.verification.conftest import Copied, forged

EDITED = ("cells", "sweep", "leaderboard", "per_class", "before_after", "transfer")
CONCLUDED = ("expectations.csv", "requirements.csv", "decision.json", "decision.md", "junit.xml")


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def checked(results: Path) -> Findings:
    store = results.parent / ".store"
    return verify_tables(load_results(results), Store(store) if store.is_dir() else None)


def text_of(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def is_number(text: str) -> bool:
    return bool(text) and text.replace(".", "", 1).isdigit()


def edit_a_digit_of_each_column(path: Path) -> dict[str, tuple[str, str]]:
    """Changes the last digit of one number in each column; returns column -> what was there, and what is."""
    table, edits = text_of(path), {}
    for number, column in enumerate(table.columns):
        rows = [place for place, text in enumerate(table[column]) if is_number(text)]
        if rows and column != "digest":
            place = rows[number % len(rows)]
            old = table.loc[place, column]
            new = f"{old[:-1]}{(int(old[-1]) + 1) % 10}"
            table.loc[place, column] = new
            edits[column] = (old, new)
    table.to_csv(path, index=False, lineterminator="\n")
    return edits


def test_untouched_results_are_verified_whole(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", str(finished / "results" / "audited_run")) == 0
    said = capsys.readouterr().out
    assert "0 differences" in said
    (line,) = (line for line in said.splitlines() if line.startswith("not checked: "))
    assert {"training.csv", "history.csv", "provenance.json", "poisons/"} <= set(line[13:].split(": ")[0].split(", "))
    assert not {*CONCLUDED, *(f"{name}.csv" for name in EDITED)} & set(line.replace(":", ",").split(", "))
    counts = dict(part.rsplit(" ", 1) for part in said.split("compared: ")[1].split(";")[0].split(", "))
    assert min(int(count) for name, count in counts.items() if name not in CONCLUDED) > 20
    assert {f"{name}.csv" for name in EDITED} | {"confusion/", "roc/", "samples.parquet", *CONCLUDED} == set(counts)


@pytest.mark.parametrize("name", EDITED)
def test_one_edited_digit_in_any_column_is_named_with_both_values(copied: Copied, name: str) -> None:
    results = copied()
    edits = edit_a_digit_of_each_column(results / f"{name}.csv")
    assert len(edits) >= 6
    found = checked(results)
    assert {it.column: (it.expected, it.written) for it in found.differences if it.file == f"{name}.csv"} == edits
    assert {it.file for it in found.differences} == {f"{name}.csv"}


@pytest.mark.parametrize("name", ["cells", "sweep", "leaderboard"])
def test_one_edited_digit_ends_with_1_and_names_the_row(copied: Copied, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = copied()
    table = text_of(results / f"{name}.csv")
    place = next(place for place, text in enumerate(table["robust_accuracy"]) if text and float(text) > 0)
    old = table.loc[place, "robust_accuracy"]
    table.loc[place, "robust_accuracy"] = "0.123"
    table.to_csv(results / f"{name}.csv", index=False)
    assert call("verify", str(results)) == 1
    said = capsys.readouterr().out
    row = {"cells": "second__fgsm__eps-4-255", "sweep": "second, fgsm Linf 4/255", "leaderboard": table.loc[place, "model"]}[name]
    assert f"{name}.csv: {row}: robust_accuracy: written 0.123, expected {old}\n" in said
    assert "1 difference\n" in said


@pytest.mark.parametrize(
    ("file", "old", "new", "row"),
    [
        ("decision.json", '"verdict": "SHIP"', '"verdict": "DO NOT SHIP"', "models.0.verdict"),
        ("decision.json", '"all_met": true', '"all_met": false', "all_met"),
        ("decision.json", '"low": 0.', '"low": 0.9', "models.0.requirements.0.low"),
        ("decision.md", ": SHIP", ": DO NOT SHIP", "line 11"),
        ("requirements.csv", ",MET,", ",NOT MET,", "second, clean_accuracy of second on clean images is at least 0.1"),
        ("junit.xml", 'failures="0"', 'failures="1"', "line 2"),
        ("expectations.csv", ",True,", ",False,", "clean_accuracy of second on clean images is at least 0.1"),
    ],
)
def test_an_edited_conclusion_is_named_where_it_stands(copied: Copied, file: str, old: str, new: str, row: str) -> None:
    results = copied()
    text = (results / file).read_text()
    assert old in text
    (results / file).write_text(text.replace(old, new, 1))
    (found,) = checked(results).differences
    assert (found.file, found.row) == (file, row)


def test_conclusions_follow_from_what_the_witnesses_say_and_not_from_edited_tables(copied: Copied) -> None:
    results = copied()
    table = text_of(results / "cells.csv")
    clean = (table["model"] == "second") & (table["condition"] == "clean")
    table.loc[clean, ["accuracy", "accuracy_low", "clean_accuracy"]] = "0.01"
    table.to_csv(results / "cells.csv", index=False)
    assert {it.file for it in checked(results).differences} == {"cells.csv"}


def test_the_hash_of_an_exported_file_is_taken_as_written_where_the_file_is_not_here(copied: Copied) -> None:
    results = copied()
    (results / "models").mkdir()
    (results / "models" / "second.onnx").write_bytes(b"weights")
    write_decision(load_results(results))
    assert not checked(results).differences
    shutil.rmtree(results / "models")
    found = checked(results)
    assert not found.differences
    assert "decision.json: models/second.onnx: the file is not here, so its hash is taken as written" in found.unchecked


def test_texts_that_change_what_a_number_means_are_named(copied: Copied) -> None:
    results = copied()
    path = results / "cells.csv"
    edits = {
        "verdict": "INVALID",
        "verdict_reasons": "fine",
        "attack": "other",
        "norm": "L2",
        "protocol": "bisect",
        "status": "failed",
    }
    table = text_of(path)
    places = [place for place, text in enumerate(table["attack"]) if text == "pgd"]
    for place, (column, value) in zip(places, edits.items(), strict=False):
        table.loc[place, column] = value
    table.to_csv(path, index=False)
    assert len(places) >= len(edits)
    found = {(it.column, it.written) for it in checked(results).differences}
    assert set(edits.items()) <= found


def test_edited_digest_dropped_and_added_rows_are_named(copied: Copied) -> None:
    results = copied()
    path = results / "cells.csv"
    table = text_of(path)
    digest = table.loc[3, "digest"]
    table.loc[3, "digest"] = "0" * 64
    place = table.index[table["attack"] == "pgd"][-1]
    dropped = table.loc[place]
    table.drop(index=place).to_csv(path, index=False)
    found = checked(results).differences
    assert ("digest", "0" * 64, digest) in {(it.column, it.written, it.expected) for it in found}
    assert [it for it in found if it.file == "cells.csv" and it.column == "row" and "pgd" in it.row]
    assert [it for it in found if it.file == "samples.parquet" and it.row == f"cell {dropped['digest'][:12]}"]


def test_edited_matrix_and_curve_are_named(copied: Copied) -> None:
    results = copied()
    for folder, column in (("confusion", "3"), ("roc", "threshold")):
        path = sorted((results / folder).glob("*.csv"))[0]
        table = text_of(path)
        table.loc[5, column] = "7.5"
        table.to_csv(path, index=False)
    (results / "confusion" / "first__clean.csv").unlink()
    found = {(it.file.partition("/")[0], it.column) for it in checked(results).differences}
    assert found == {("confusion", "3"), ("roc", "threshold"), ("confusion", "all")}


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("column", ["prediction", "clean_prediction", "label", "fooled", "clean_correct", "eligible"])
def test_edited_examples_are_noticed_with_the_store_and_without(copied: Copied, column: str, store: bool) -> None:
    results = copied(store=store)
    samples = pd.read_parquet(results / "samples.parquet")
    place = samples.index[(samples["condition"] == "attack") & samples["clean_correct"] & ~samples["fooled"]][3]
    old = samples.loc[place, column]
    samples.loc[place, column] = not old if samples[column].dtype == bool else (old + 1) % 10
    samples.to_parquet(results / "samples.parquet", index=False)
    found = checked(results)
    assert found.differences
    if store:
        files = {it.file for it in found.differences}
        assert files == {"samples.parquet"}
        assert samples.loc[place, "example_id"] in found.differences[0].line


def test_without_the_store_the_examples_are_the_witness_and_it_is_said_what_is_not_checked(
    copied: Copied, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = copied(store=False)
    monkeypatch.chdir(results.parent)
    assert call("verify", "audited_run") == 0
    said = capsys.readouterr().out
    assert "not checked: columns that only stored outcomes tell: audit_broken, audit_n, backwards" in said
    assert "0 of " in said
    assert "found no store" in said
    for name in ("cells", "sweep", "leaderboard"):
        edits = edit_a_digit_of_each_column(results / f"{name}.csv")
        found = [it for it in checked(results).differences if it.file == f"{name}.csv"]
        taken_over = ONLY_STORED if name == "cells" else set()
        assert {it.column for it in found} == set(edits) - taken_over


def test_without_examples_and_store_the_matrices_are_the_witness_and_the_results_are_not_verified(
    copied: Copied, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = copied(store=False)
    monkeypatch.chdir(results.parent)
    (results / "samples.parquet").unlink()
    assert call("verify", "audited_run") == 2
    assert "there is no samples.parquet" in capsys.readouterr().out
    table = text_of(results / "cells.csv")
    table.loc[1, "accuracy"] = "0.5"
    table.to_csv(results / "cells.csv", index=False)
    assert call("verify", "audited_run") == 1
    assert "accuracy: written 0.5" in capsys.readouterr().out


def test_store_alone_verifies_a_folder_without_examples(copied: Copied) -> None:
    results = copied()
    (results / "samples.parquet").unlink()
    shutil.rmtree(results / "roc")
    found = checked(results)
    assert found.conclusive
    assert not found.differences
    assert "training.csv" in found.unchecked[-1]
    assert found.unchecked[:-1] == [
        "leaderboard.csv: columns data_digest: nothing here says what they should be",
        "roc/: the folder has none",
        "samples.parquet: the folder has none",
    ]


def test_damaged_and_lost_outcomes_are_said(copied: Copied) -> None:
    results = copied()
    damaged, lost = sorted((results.parent / ".store" / "attack").iterdir())[:2]
    with (damaged / "outcome.safetensors").open("ab") as file:
        file.write(b"x")
    shutil.rmtree(lost)
    found = checked(results)
    assert [(it.file, it.row, it.column) for it in found.differences] == [
        ("store", f"attack/{damaged.name[:12]}", "outcome.safetensors")
    ]
    assert "only stored outcomes tell" in " ".join(found.unchecked)


def test_outcome_that_was_changed_with_its_hash_is_another_witness_than_tables_and_examples(copied: Copied) -> None:
    results = copied()
    entry = sorted((results.parent / ".store" / "attack").iterdir())[0]

    def rolled(outcome: Outcome) -> Outcome:
        outcome.conditions[0].is_adversarial[:] = np.roll(outcome.conditions[0].is_adversarial, 1)
        return outcome

    forged(entry, rolled)
    assert {"samples.parquet"} <= {it.file for it in checked(results).differences}


def test_folder_without_tables_and_a_store_that_is_none_are_bad_input(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify", str(tmp_path)) == 2
    assert call("verify", str(finished / "results" / "audited_run"), "--store", str(tmp_path / "none")) == 2
    assert "expected the folder of a store, found nothing" in capsys.readouterr().err
