"""Two results folders side by side, matched by model and condition."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import HarnessError
from harness.reports.load import load_results, reading_tables
from harness.reports.names import is_missing

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
COMPARED = ("accuracy", "robust_accuracy", "attack_success_rate")
SETTINGS = ("arch", "recipe", "alpha", "steps", "restarts", "protocol", "seed", "n_examples")
"""Columns that are reported where two counterparts differ in them."""
STATE = ("accuracy_low", "accuracy_high", "verdict", "status")


def compare(a: Path, b: Path) -> pd.DataFrame:
    """Returns the cells of two results folders, matched by model and condition.

    Args:
        a: A results folder.
        b: Another one; differences are b minus a.

    Returns:
        One row for each cell of either: the matched columns, `present` (both, a or b), each compared number as
        <name>_a, <name>_b and <name>_difference, attack check and status of both, `changed_settings`,
        and `overlap`: whether the 95 % intervals of `accuracy` overlap, empty where a number is missing.

    Raises:
        HarnessError: if one of them is no results folder, or they have no cell in common.
    """
    with reading_tables(b):
        table = _compared(a, b)
    if not (table["present"] == "both").any():
        raise HarnessError(f"{b}: expected at least one cell of {a}, of the same data set, model and condition, found none")
    return table


def _compared(a: Path, b: Path) -> pd.DataFrame:
    columns = [*MATCHED, *COMPARED, *SETTINGS, *STATE]
    tables = [load_results(folder).cells[columns] for folder in (a, b)]
    tables = [
        table.assign(_repeat=table.groupby(list(MATCHED), dropna=False).cumcount(), eps=table["eps"].round(9)) for table in tables
    ]
    merged = tables[0].merge(
        tables[1], on=[*MATCHED, "_repeat"], how="outer", suffixes=("_a", "_b"), indicator="present", sort=False
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
