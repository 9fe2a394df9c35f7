"""Reading results folders back, and two of them side by side, without anything of what ran them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import HarnessError, StoreError
from harness.records import CELL_COLUMNS, SCHEMA_VERSION
from harness.reports.names import TEXT_COLUMNS, is_missing, with_column_types
from harness.store import read_json

MATCHED = (
    "dataset",
    "model",
    "poison",
    "poison_rate",
    "target_class",
    "condition",
    "attack",
    "norm",
    "eps",
    "corruption",
    "severity",
)
"""Columns by which a cell of one run finds its counterpart in the other."""
LATER = ("corruption_group", "targeted")
"""Columns of cells.csv that older runs did not write; they are read as empty."""
LATER_OF_SWEEP = ("targeted", "target_class")
"""The same of sweep.csv."""
COMPARED = ("accuracy", "robust_accuracy", "attack_success_rate")
SETTINGS = ("arch", "recipe", "alpha", "steps", "restarts", "protocol", "seed", "n_examples")
"""Columns that are reported where two counterparts differ in them."""
STATE = ("accuracy_low", "accuracy_high", "verdict", "status")


@dataclass(frozen=True)
class Results:
    """The tables of a results folder; each is read when it is first asked for."""

    folder: Path

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a cell of the grid."""
        return _with(LATER, self._table("cells.csv", tuple(name for name in CELL_COLUMNS if name not in LATER)))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row for each example and cell."""
        path = self.folder / "samples.parquet"
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise HarnessError(f"{path}: expected a parquet file of a run, found {error}") from error

    @cached_property
    def per_class(self) -> pd.DataFrame:
        """One row for each cell and class."""
        return self._table("per_class.csv", ("digest", "class", "recall"))

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """One row for each model, attack and budget, the worst case over attacks among them."""
        return _with(LATER_OF_SWEEP, self._table("sweep.csv", ("model", "attack", "eps", "robust_accuracy")))

    @cached_property
    def before_after(self) -> pd.DataFrame:
        """One row for each condition that changes images or model: the scores before and after."""
        return self._table("before_after.csv", ("digest", "accuracy_before", "accuracy_after"))

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """One row a model, best first."""
        return self._table("leaderboard.csv", ("rank", "model", "clean_accuracy"))

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row for each trained model and epoch."""
        return self._table("history.csv", ("model", "epoch"))

    @cached_property
    def training(self) -> pd.DataFrame:
        """One row for each trained model: the epoch kept, and what its training warns of; empty where nothing was trained."""
        return self._optional("training.csv")

    @cached_property
    def expectations(self) -> pd.DataFrame:
        """One row for each assertion of the suite; `holds` is missing where a number was."""
        return self._table("expectations.csv", ("text", "holds", "found")).astype({"holds": "boolean"})

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions, git commit, host, device, seeds, the suite and the class names."""
        return _provenance(self.folder)

    @cached_property
    def crossruntime(self) -> pd.DataFrame:
        """One row for each model, condition and runtime; empty where no cross-check was made."""
        return self._optional("crossruntime.csv")

    @cached_property
    def transfer(self) -> pd.DataFrame:
        """One row for each source, target, attack and budget; empty where transfer was not measured."""
        return self._optional("transfer.csv")

    @cached_property
    def poisons(self) -> pd.DataFrame:
        """One row for each poisoned model; empty where nothing was poisoned."""
        return self._optional("poisons.csv")

    @cached_property
    def detectors(self) -> pd.DataFrame:
        """One row for each detector and poisoned model; empty where nothing was looked for."""
        return self._optional("detectors.csv")

    @cached_property
    def detectors_roc(self) -> pd.DataFrame:
        """The points of the detectors' ROC curves; empty where nothing was looked for."""
        return self._optional("detectors_roc.csv")

    @property
    def suite_name(self) -> str:
        """The suite's name."""
        return str(self.provenance["suite"].get("name", self.folder.name))

    def matrix(self, subfolder: str, cell: str) -> pd.DataFrame:
        """Returns confusion/<cell>.csv or roc/<cell>.csv."""
        return self._table(f"{subfolder}/{cell}.csv", ())

    def _optional(self, name: str) -> pd.DataFrame:
        return self._table(name, ()) if (self.folder / name).is_file() else pd.DataFrame()

    def _table(self, name: str, required: tuple[str, ...]) -> pd.DataFrame:
        path = self.folder / name
        try:
            table = pd.read_csv(
                path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False, na_values=[""], float_precision="round_trip"
            )
        except (OSError, ValueError) as error:
            raise HarnessError(f"{path}: expected a table of a run, found {error}") from error
        if absent := [column for column in required if column not in table]:
            raise HarnessError(f"{path}: expected the columns {', '.join(absent)}, found none of that name")
        return with_column_types(table)


def _with(columns: tuple[str, ...], table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table with columns that it may lack, which are then empty."""
    return with_column_types(table.reindex(columns=[*table, *(name for name in columns if name not in table)]))


def load_results(folder: Path | str) -> Results:
    """Opens a results folder.

    Args:
        folder: What `harness run` wrote, for example results/quickstart.

    Raises:
        HarnessError: if it is no results folder, or one of another schema version.
    """
    folder = Path(folder)
    if not is_results_folder(folder):
        raise HarnessError(f"{folder}: expected a results folder with a cells.csv, found none; `harness run` writes one")
    _provenance(folder)
    return Results(folder)


def is_results_folder(folder: Path) -> bool:
    """Tells whether a run left its tables in a folder."""
    return (folder / "cells.csv").is_file()


def compare(a: Path, b: Path) -> pd.DataFrame:
    """Returns the cells of two results folders, matched by model and condition.

    Args:
        a: A results folder.
        b: Another one; differences are b minus a.

    Returns:
        One row for each cell of either: the matched columns, `present` (both, a or b), each compared number as
        <name>_a, <name>_b and <name>_difference, verdict and status of both, `changed_settings`, and
        `overlap`: whether the 95 % intervals of `accuracy` meet, empty where a number is missing.

    Raises:
        HarnessError: if one of them is no results folder.
    """
    columns = [*MATCHED, *COMPARED, *SETTINGS, *STATE]
    tables = [load_results(folder).cells[columns] for folder in (a, b)]
    tables = [
        table.assign(_twin=table.groupby(list(MATCHED), dropna=False).cumcount(), eps=table["eps"].round(9)) for table in tables
    ]
    merged = tables[0].merge(
        tables[1], on=[*MATCHED, "_twin"], how="outer", suffixes=("_a", "_b"), indicator="present", sort=False
    )
    merged["present"] = merged["present"].astype(str).replace({"left_only": "a", "right_only": "b"})
    for name in COMPARED:
        merged[f"{name}_difference"] = merged[f"{name}_b"] - merged[f"{name}_a"]
    overlap = (merged["accuracy_low_a"] <= merged["accuracy_high_b"]) & (merged["accuracy_low_b"] <= merged["accuracy_high_a"])
    known = merged["accuracy_a"].notna() & merged["accuracy_b"].notna()
    merged["overlap"] = overlap.astype("boolean").where(known)
    merged["changed_settings"] = _changed_settings(merged)
    numbers = [f"{name}_{end}" for name in COMPARED for end in ("a", "b", "difference")]
    states = [f"{name}_{end}" for name in ("verdict", "status") for end in ("a", "b")]
    return merged[[*MATCHED, "present", *numbers, "overlap", "changed_settings", *states]]


def _changed_settings(merged: pd.DataFrame) -> pd.Series:
    """Returns, for each row, the settings in which two counterparts differ, e.g. "steps: 10 -> 20"."""
    rows = merged[merged["present"] == "both"].to_dict("records")
    texts = ["; ".join(_changes(row)) for row in rows]
    return pd.Series(texts, index=merged.index[merged["present"] == "both"], dtype=object).reindex(merged.index, fill_value="")


def _changes(row: Mapping[Any, Any]) -> list[str]:
    pairs = [(name, row[f"{name}_a"], row[f"{name}_b"]) for name in SETTINGS]
    shown = [(name, *("none" if is_missing(value) else f"{value}" for value in values)) for name, *values in pairs]
    return [f"{name}: {a} -> {b}" for name, a, b in shown if a != b]


def _provenance(folder: Path) -> dict[str, Any]:
    path = folder / "provenance.json"
    try:
        provenance = read_json(path)
    except StoreError as error:
        raise HarnessError(str(error)) from error
    if provenance.get("schema_version") != SCHEMA_VERSION:
        found = provenance.get("schema_version")
        raise HarnessError(f"{path}: expected schema_version {SCHEMA_VERSION}, found {found}; run the suite again")
    return provenance
