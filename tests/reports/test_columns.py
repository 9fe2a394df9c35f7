"""Columns: each is documented, the same keys stand in every table, and plain pandas reads what was written."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from harness.metrics import wilson_interval
from harness.records import TransferRow
from harness.reports.columns import COLUMNS, TABLES, meaning
from harness.reports.decision.files import write_decision
from harness.reports.load import Results, load_results
from harness.reports.names import MODEL_COLUMNS, TRUTH_VALUES, WHOLE_NUMBERS
from harness.reports.tables.write import write_tables
from tests.columns import WRITTEN, page
from tests.reports.planted import HISTORIES, TRAININGS, attack_results, clean_result, lost_result, record_of
from tests.reports.tables.test_poisons import CELLS, POISONED, detection_of, poisoned_cell
from tests.reports.tables.test_stages import audited

POISONED_LABEL = "pgd, backdoor 5 %"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A run with every table that is written without a cross-check."""
    cells = [
        *CELLS,
        *attack_results("pgd", "pgd"),
        *audited(10, 2),
        clean_result("baseline"),
        lost_result("baseline", CELLS[0].status, "", condition="attack", attack="square", norm="L2", eps="1/2"),
    ]
    transfers = (TransferRow("baseline", "pgd", "pgd", "Linf", 4 / 255, 0.75, 0.0625, 40, 32),)
    requirement = {"model": "pgd", "metric": "clean_accuracy", "at_least": 0.5}
    suite = {"name": "synthetic", "title": "", "description": "", "requirements": [requirement]}
    record = record_of(
        cells,
        suite=suite,
        transfers=transfers,
        poisoned=POISONED,
        detections=(detection_of(poisoned_cell(0.05)),),
        histories={**HISTORIES, POISONED_LABEL: HISTORIES["pgd"]},
        trainings={**TRAININGS, POISONED_LABEL: TRAININGS["pgd"]},
    )
    write_tables(record, folder := tmp_path_factory.mktemp("everything"))
    write_decision(load_results(folder))
    return load_results(folder)


def tables_of(results: Results) -> dict[str, pd.DataFrame]:
    """Every table, as plain pandas reads it for a join."""
    found = {path.name: pd.read_csv(path, dtype={"poison": str}) for path in sorted(results.folder.glob("*.csv"))}
    found["samples.parquet"] = results.samples
    for name in ("confusion", "roc"):
        found[f"{name}/<cell>.csv"] = pd.read_csv(next((results.folder / name).glob("*.csv")))
    return found


def test_every_table_is_one_of_the_page(everything: Results) -> None:
    elsewhere = {"crossruntime.csv", "best_known.csv", "best_known_images.csv", "examples/sheet.csv"}
    assert set(tables_of(everything)) == set(TABLES) - elsewhere
    assert set(WRITTEN) == set(TABLES)


def test_columns_are_those_that_the_page_lists_in_order(everything: Results) -> None:
    for name, table in tables_of(everything).items():
        listed = list(WRITTEN[name])
        columns = [name for name in map(str, table) if not name.startswith("robust_accuracy[")]
        if name == "confusion/<cell>.csv":
            columns = columns[:1]
        assert set(columns) <= set(listed), name
        if name not in ("history.csv", "training.csv", "confusion/<cell>.csv"):
            assert columns == [column for column in listed if not column.startswith("robust_accuracy[")], name


def test_every_column_has_a_meaning_and_no_meaning_is_of_no_column() -> None:
    assert not [(table, name) for table, columns in WRITTEN.items() for name in columns if meaning(table, name) is None]
    written = {name for columns in WRITTEN.values() for name in columns}
    assert {name.partition(" (")[0] for name in COLUMNS} - written == {"suite"}


def test_the_page_is_fresh() -> None:
    found = (Path(__file__).parents[2] / "docs" / "columns.md").read_text(encoding="utf-8")
    assert found == page(), "run `make columns`"


def test_the_models_of_every_table_are_those_of_cells(everything: Results) -> None:
    tables = tables_of(everything)
    known = tables["cells.csv"][list(MODEL_COLUMNS)].drop_duplicates()
    for name, table in tables.items():
        if name in ("cells.csv", "samples.parquet", "expectations.csv", "confusion/<cell>.csv", "roc/<cell>.csv"):
            continue
        joined = table[list(MODEL_COLUMNS)].merge(known, on=list(MODEL_COLUMNS), how="left", indicator=True)
        assert (joined["_merge"] == "both").all(), name
    assert (tables["history.csv"]["poison"] == "backdoor").sum() == len(HISTORIES["pgd"])


def test_whole_numbers_and_truth_values_are_read_back_as_such(everything: Results) -> None:
    for path in everything.folder.glob("*.csv"):
        table, plain = pd.read_csv(path, dtype_backend="numpy_nullable"), pd.read_csv(path)
        texts = pd.read_csv(path, dtype=str, keep_default_na=False)
        for name in set(table) & {*WHOLE_NUMBERS, *TRUTH_VALUES, "holds", "stopped_early", "collapsed"}:
            if table[name].notna().any():
                wanted = "Int64" if name in WHOLE_NUMBERS else "boolean"
                assert str(table[name].dtype) == wanted, f"{path.name}: {name}"
                assert values(plain[name]) == values(table[name]), f"{path.name}: {name}"
            assert not texts[name].str.endswith(".0").any(), f"{path.name}: {name}"


def values(column: "pd.Series[bool]") -> Mapping[int, object]:
    return {number: value for number, value in enumerate(column.tolist()) if not pd.isna(value)}


def test_transfer_has_numbers_of_examples_and_intervals(everything: Results) -> None:
    (row,) = everything.transfer.to_dict("records")
    assert (row["model"], row["source"], row["target"], row["arch"]) == ("pgd", "baseline", "pgd", "tiny")
    assert (row["n_examples"], row["eligible"]) == (40, 32)
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(wilson_interval(30, 40))
    found = (row["attack_success_rate_low"], row["attack_success_rate_high"])
    assert found == pytest.approx(wilson_interval(2, 32))
