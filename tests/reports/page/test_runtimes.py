"""The two questions of deployment, answered from a planted cross-check."""

from pathlib import Path

import pandas as pd

from harness.reports.load import load_results
from harness.reports.page.runtimes import agreement, runtime_tables
from harness.reports.page.tables import PageTable
from harness.reports.tables.write import write_tables
from tests.reports.planted import grid, record_of

ROBUST = {"float32": 0.5, "int8": 0.4, "fp16": 0.45}
STORED = {"attack": 0.5, "rounded8bit": 0.55, "jpeg": 0.75}


def rows() -> list[dict[str, object]]:
    attack = {"model": "pgd", "attack": "pgd", "norm": "Linf", "eps": 8 / 255}
    clean = {"model": "pgd", "condition": "clean", "accuracy": 0.9}
    files = [
        {**row, "runtime": runtime, "precision": precision}
        for runtime in ("ONNX Runtime (Python)", "ONNX Runtime (C++)")
        for precision, robust in ROBUST.items()
        for row in (clean, {**attack, "condition": "attack", "accuracy": 0.6, "robust_accuracy": robust})
    ]
    stored = [{**attack, "condition": kind, "accuracy": 0.6, "robust_accuracy": robust} for kind, robust in STORED.items()]
    stored += [clean, {**clean, "condition": "rounded8bit", "accuracy": 0.89}]
    trigger, fog = {"model": "pgd", "attack": "backdoor"}, {"model": "pgd", "attack": "fog"}
    for kind, robust in (("trigger", 0.1), ("rounded8bit", 0.2)):
        stored.append({**trigger, "condition": kind, "accuracy": 0.3, "robust_accuracy": robust})
    stored += [{**fog, "condition": kind, "accuracy": 0.7} for kind in ("corruption", "rounded8bit")]
    return [{**row, "runtime": "PyTorch", "precision": "float32"} for row in stored] + files


def tables(folder: Path, found: list[dict[str, object]]) -> list[PageTable]:
    write_tables(record_of(grid()), folder)
    pd.DataFrame(found).to_csv(folder / "crossruntime.csv", index=False)
    return runtime_tables(load_results(folder))


def texts(table: PageTable) -> list[list[str]]:
    return [[entry.text for entry in row] for row in table.rows]


def test_precisions_and_storage_are_told_beside_each_other(tmp_path: Path) -> None:
    precisions, storage, everything = tables(tmp_path, rows())
    assert precisions.columns == ("model", "images", "float", "INT8", "FP16")
    assert texts(precisions) == [
        ["pgd", "clean", "90.0 %", "90.0 %", "90.0 %"],
        ["pgd", "pgd Linf 8/255", "50.0 %", "40.0 %", "45.0 %"],
    ]
    assert storage.columns == ("model", "images", "as it is", "rounded to 8 bits", "through JPEG")
    assert texts(storage) == [
        ["pgd", "pgd Linf 8/255", "50.0 %", "55.0 %", "75.0 %"],
        ["pgd", "clean", "90.0 %", "89.0 %", "–"],
        ["pgd", "backdoor", "10.0 %", "20.0 %", "–"],
    ]
    assert len(everything.rows) == len(rows())


def test_clipped_pixels_stand_below_the_number_of_their_file(tmp_path: Path) -> None:
    shares = {"int8": 0.195, "fp16": None, "float32": None}
    found = [{**row, "clipped_share": shares[str(row["precision"])] if row["condition"] == "attack" else None} for row in rows()]
    precisions, storage, everything = tables(tmp_path, found)
    assert [[entry.detail for entry in row[2:]] for row in precisions.rows] == [
        ["", "", ""],
        ["", "19.5 % of the pixels clipped", ""],
    ]
    assert not any(entry.detail for row in storage.rows for entry in row)
    assert "clipped share" in everything.columns


def test_question_that_was_not_asked_has_no_table(tmp_path: Path) -> None:
    found = [row for row in rows() if row["precision"] == "float32" and row["condition"] in {"clean", "attack"}]
    assert [len(table.rows) for table in tables(tmp_path, found)] == [len(found)]


def test_table_of_another_tool_is_shown_as_it_is(tmp_path: Path) -> None:
    (everything,) = tables(tmp_path, [{"model": "pgd", "runtime": "cpp", "accuracy": 0.8}])
    assert texts(everything) == [["pgd", "cpp", "0.8"]]


def compared(**flips: int) -> pd.DataFrame:
    rows = [{"runtime": "PyTorch", "precision": "float32", "flips": 0, "n_examples": 50}]
    rows += [{"runtime": "C++", "precision": name, "flips": count, "n_examples": 50} for name, count in flips.items()]
    return pd.DataFrame(rows)


def test_section_opens_with_whether_every_prediction_is_pytorchs() -> None:
    assert (
        agreement(compared(float32=0)) == "Yes: the float model's 50 predictions in other runtimes are PyTorch's, on every image."
    )
    found = agreement(compared(float32=2, int8=7))
    assert found.startswith("No: 2 of the float model's 50 predictions")
    assert found.endswith("INT8 predicts otherwise on 7 of 50.")
    assert agreement(pd.DataFrame()) == ""


def test_all_rows_have_no_empty_column_and_short_digests(tmp_path: Path) -> None:
    found = [{**row, "digest": "0123456789abcdef", "reasons": None} for row in rows()]
    whole = tables(tmp_path / "run", found)[-1]
    assert "reasons" not in whole.columns
    assert {row[whole.columns.index("digest")].text for row in whole.rows} == {"0123456789ab"}
    assert (whole.tools, whole.file) == ("table-runtimes", "crossruntime.csv")
