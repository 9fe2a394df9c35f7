"""Writes the tables of a results folder from the record of a run."""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.records import CELL_COLUMNS, SCHEMA_VERSION, CellResult, Expectation, RunRecord
from harness.reports.files import staged, write_text
from harness.reports.names import MODEL_COLUMNS, TEXT_COLUMNS, TYPED, cell_fields, unique_cell_names, with_column_types
from harness.reports.tables.leaderboard import leaderboard
from harness.reports.tables.poisons import poison_tables, poisons_table
from harness.reports.tables.scores import SCORES, ScoredCell, before_after_row, cell_row, per_class_columns, scored_cells
from harness.reports.tables.stages import stages_table
from harness.reports.tables.sweep import sweep_table
from harness.reports.tables.training import history_table, training_table
from harness.reports.tables.transfer import transfer_table
from harness.storage.store import write_json

CONDITION_COLUMNS = ("target_class", "condition", "attack", "norm", "eps", "corruption", "severity", "protocol")
IDENTITY = ("digest", *MODEL_COLUMNS, *CONDITION_COLUMNS)
"""First columns of every table with one or more rows a cell."""
SAMPLE_COLUMNS = (
    *(*IDENTITY, "example_id", "content_hash", "label", "clean_prediction", "prediction", "clean_correct", "correct"),
    *("eligible", "fooled", "smallest_eps", "distance"),
)
"""Columns of samples.parquet, in order."""
PER_CLASS_COLUMNS = (
    *(*IDENTITY, "class", "support", "precision", "recall", "f1", "roc_auc", "robust_accuracy", "attack_success_rate"),
)
BEFORE_AFTER_COLUMNS = (
    *(*IDENTITY, "n_examples"),
    *(f"{score}_{when}" for score in SCORES for when in ("before", "after", "difference")),
)
EXPECTATION_COLUMNS = ("text", "holds", "found")
CURVE_COLUMNS = ("class", "false_positive_rate", "true_positive_rate", "threshold")
OWNED = {"confusion": (".csv",), "roc": (".csv",)}


def write_tables(record: RunRecord, folder: Path) -> None:
    """Writes every table of a run; the files of an earlier run in the same folder are replaced one by one.

    Writes cells.csv, samples.parquet, per_class.csv, sweep.csv, before_after.csv, leaderboard.csv, history.csv,
    expectations.csv, provenance.json, confusion/<cell>.csv and roc/<cell>.csv, and where they have rows training.csv,
    transfer.csv, stages.csv, poisons.csv, detectors.csv and detectors_roc.csv.

    Args:
        record: The results of the run.
        folder: The results folder.

    Raises:
        HarnessError: if arrays of the record do not fit each other, or the folder cannot be written.
    """
    found = scored_cells(record)
    with_numbers = [cell for _, cell in found if cell is not None]
    samples, tables = tables_of_cells(record, found)
    tables |= {
        "history": history_table(record),
        "expectations": expectations_table(record.expectations),
    }
    optional = {
        "training": training_table(record),
        "transfer": transfer_table(record),
        "stages": stages_table(found),
        **poison_tables(record, found),
    }
    tables |= {name: table for name, table in optional.items() if len(table)}
    with staged(folder, owned=OWNED) as staging:
        for name, table in tables.items():
            _write_csv(table, staging / f"{name}.csv")
        samples.to_parquet(staging / "samples.parquet", index=False, compression="zstd")
        write_json(staging / "provenance.json", _provenance(record))
        names = unique_cell_names([cell_fields(cell.result.cell) | {"digest": cell.result.digest} for cell in with_numbers])
        for subfolder in OWNED:
            (staging / subfolder).mkdir()
        for cell in with_numbers:
            name = f"{names[cell.result.digest]}.csv"
            _write_rows(_confusion_rows(cell, record.class_names), staging / "confusion" / name)
            _write_rows(_roc_rows(cell, record.class_names), staging / "roc" / name)
    for name in optional.keys() - tables.keys():
        (folder / f"{name}.csv").unlink(missing_ok=True)


def tables_of_cells(
    record: RunRecord, found: list[tuple[CellResult, ScoredCell | None]]
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Returns the table samples.parquet, and by name the tables whose every number follows from the cells.

    Args:
        record: The results of the run.
        found: Its cells with their scores.

    Raises:
        HarnessError: if a cell was scored on another number of examples than are named.
    """
    cells, with_numbers = _table_of(found), [cell for _, cell in found if cell is not None]
    samples = samples_table(record, with_numbers)
    sweep, per_class = sweep_table(cells, samples), per_class_table(with_numbers, record.class_names)
    return samples, {
        "cells": cells,
        "per_class": per_class,
        "sweep": sweep,
        "before_after": before_after_table(with_numbers),
        "leaderboard": leaderboard(cells, sweep, per_class=per_class, samples=samples, provenance=_provenance(record)),
    }


def cells_table(record: RunRecord) -> pd.DataFrame:
    """Returns the table cells.csv of a run.

    Raises:
        HarnessError: if arrays of the record do not fit each other.
    """
    return _table_of(scored_cells(record))


def asserted_tables(record: RunRecord) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the tables that expectations refer to: cells.csv and poisons.csv, the latter perhaps without rows.

    Raises:
        HarnessError: if arrays of the record do not fit each other.
    """
    found = scored_cells(record)
    return _table_of(found), poisons_table(record, found)


def _table_of(found: list[tuple[CellResult, ScoredCell | None]]) -> pd.DataFrame:
    return cells_of_rows([cell_row(*pair) for pair in found])


def cells_of_rows(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Returns rows of cells.csv as a table with the types that it is written with."""
    table = pd.DataFrame(rows, columns=list(CELL_COLUMNS))
    floats = [name for name in CELL_COLUMNS if name not in (*TEXT_COLUMNS, *TYPED)]
    return with_column_types(table.astype(dict.fromkeys(floats, float)))


def expectations_table(judged: Iterable[Expectation]) -> pd.DataFrame:
    """Returns the table expectations.csv."""
    return pd.DataFrame([vars(row) for row in judged], columns=list(EXPECTATION_COLUMNS))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table as CSV, in the same form for all tables, in one move.

    Raises:
        HarnessError: if the file cannot be written.
    """
    write_text(path, csv_text(table))


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table into a staging directory, whose files are moved together."""
    path.write_text(csv_text(table), encoding="utf-8")


def csv_text(table: pd.DataFrame) -> str:
    """Returns a table as its CSV file has it."""
    return table.to_csv(index=False, lineterminator="\n")


def _write_rows(rows: Iterable[Iterable[object]], path: Path) -> None:
    """Writes rows without missing entries, the names of the columns first, in the same form, but in a tenth of the time."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _identity(cell: ScoredCell) -> dict[str, Any]:
    fields = {**cell_fields(cell.result.cell), "digest": cell.result.digest}
    return {name: fields[name] for name in IDENTITY}


def _identities(cells: list[ScoredCell]) -> pd.DataFrame:
    return with_column_types(pd.DataFrame([_identity(cell) for cell in cells], columns=list(IDENTITY)))


def _joined(parts: list[dict[str, NDArray[np.generic]]]) -> dict[str, NDArray[np.generic]]:
    """Returns columns that come in parts, each as one array."""
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def samples_table(record: RunRecord, cells: list[ScoredCell]) -> pd.DataFrame:
    """Returns one row for each example and cell, in the order of what the cell was scored on.

    `smallest_eps` is inf where no attack succeeded, and empty where the cell is no attack. `eligible` is true for the examples
    on which a success counts.

    Raises:
        HarnessError: if a cell was scored on another number of examples than are named.
    """
    identity = _identities(cells).astype({name: "category" for name in IDENTITY if name in TEXT_COLUMNS})
    columns = _joined([_outcomes(cell) for cell in cells])
    named = [_named(record, cell) for cell in cells]
    ids, hashes = (pd.Categorical(list(chain.from_iterable(names[place] for names in named))) for place in (0, 1))
    examples = {"example_id": ids, "content_hash": hashes}
    rows = identity.loc[identity.index.repeat([len(names[0]) for names in named])].reset_index(drop=True)
    return pd.concat([rows, pd.DataFrame(examples), pd.DataFrame(columns)], axis=1)


def _named(record: RunRecord, cell: ScoredCell) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns names and content hashes of the examples that a cell was scored on: its own, else the run's."""
    result, n = cell.result, len(cell.after.labels)
    own = result.example_ids is not None
    ids = result.example_ids if own else record.example_ids
    hashes = result.example_hashes if own else record.example_hashes
    if ids is None or hashes is None or not n == len(ids) == len(hashes):
        raise HarnessError(f"cell {result.digest[:12]}: expected {len(ids or ())} examples, as many as are named, got {n}")
    return ids, hashes


def _outcomes(cell: ScoredCell) -> dict[str, NDArray[np.generic]]:
    """Returns the columns of a cell's examples, arrays (N,)."""
    result, n = cell.result, len(cell.after.labels)
    smallest_eps = result.smallest_eps if result.cell.kind.is_attack else None
    return {
        "label": cell.after.labels,
        "clean_prediction": cell.before.predicted,
        "prediction": cell.after.predicted,
        "clean_correct": cell.before.correct,
        "correct": cell.after.correct,
        "eligible": cell.eligible,
        "fooled": np.zeros(n, bool) if cell.succeeded is None else cell.succeeded,
        "smallest_eps": np.full(n, np.nan, np.float32) if smallest_eps is None else smallest_eps,
        "distance": cell.condition.distance,
    }


def per_class_table(cells: list[ScoredCell], class_names: tuple[str, ...]) -> pd.DataFrame:
    """Returns one row for each cell and class."""
    scores = _joined([per_class_columns(cell) for cell in cells])
    identity = _identities(cells)
    rows = identity.loc[identity.index.repeat(len(class_names))].reset_index(drop=True)
    table = rows.assign(**{"class": list(class_names) * len(cells)}, **scores)
    return with_column_types(table.reindex(columns=list(PER_CLASS_COLUMNS)))


def before_after_table(cells: list[ScoredCell]) -> pd.DataFrame:
    """Returns one row for each condition that has a before: every score before, after, and the difference."""
    rows = [
        {**_identity(cell), "n_examples": len(cell.after.labels), **before_after_row(cell)}
        for cell in cells
        if cell.result.cell.kind.has_before
    ]
    return with_column_types(pd.DataFrame(rows, columns=list(BEFORE_AFTER_COLUMNS)))


def confusion_table(cell: ScoredCell, class_names: tuple[str, ...]) -> pd.DataFrame:
    """Returns counts: one row a true class, one column a predicted class, named as the classes."""
    columns, *rows = _confusion_rows(cell, class_names)
    return pd.DataFrame(rows, columns=columns)


def _confusion_rows(cell: ScoredCell, class_names: tuple[str, ...]) -> Iterator[list[Any]]:
    yield ["true_class", *class_names]
    for name, counts in zip(class_names, cell.after.confusion.tolist(), strict=True):
        yield [name, *counts]


def roc_table(cell: ScoredCell, class_names: tuple[str, ...]) -> pd.DataFrame:
    """Returns the points of the one-vs-rest ROC curves, class by class."""
    columns, *rows = _roc_rows(cell, class_names)
    return pd.DataFrame(rows, columns=list(columns))


def _roc_rows(cell: ScoredCell, class_names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    yield CURVE_COLUMNS
    for curve in cell.after.curves:
        values = (curve.false_positive_rate, curve.true_positive_rate, curve.thresholds)
        yield from zip(repeat(class_names[curve.class_index]), *(np.round(it, 6).tolist() for it in values), strict=False)


def _provenance(record: RunRecord) -> dict[str, Any]:
    return {
        **record.provenance,
        "schema_version": SCHEMA_VERSION,
        "suite": dict(record.suite),
        "class_names": list(record.class_names),
        "n_examples": len(record.example_ids),
    }
