"""Names of budgets, models and cells in tables, file names and pages."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd

from harness.conditions import condition_kind
from harness.records import Cell

WORST_CASE = "worst_case"
"""Value of the column `attack` for the pointwise worst case over all attacks."""

POISONED = "POISONED"
"""The badge of a model that was trained on poisoned data."""

OF_DATA_SET = "data-set-"
"""How a `data_digest` begins that is over a data set, as the examples drawn from it are not stored."""

MODEL_COLUMNS = ("dataset", "model", "arch", "recipe", "poison", "poison_rate", "seed")
"""Columns that identify a trained model."""

POISONED_MODEL = ["model", "poison", "poison_rate"]
"""Rows that agree in these columns are repetitions of each other."""

TEXT_COLUMNS = (
    *("dataset", "model", "arch", "recipe", "poison", "target_class", "condition", "attack", "attacks", "norm", "corruption"),
    "corruption_group",
    *("protocol", "verdict", "verdict_reasons", "status", "reason", "digest", "suite", "strongest_attack", "class", "cell"),
    *("source", "target", "runtime", "text", "found", "true_class"),
    *("detector", "images", "trigger_sha256", "manifest", "manifest_digest", "stage"),
    *("rank_range", "badge", "attacks_not_met", "attack_settings", "data_digest", "worst_class", "rank_note"),
)
"""Columns that hold text whatever it looks like: a digest may be all digits, a class may be called "null"."""

WHOLE_NUMBERS = (
    *("rank", "steps", "restarts", "severity", "seed", "n_examples", "support", "forwards", "backwards", "epoch"),
    *("training_examples", "poisoned", "changed_pixels", "eligible", "targets", "targets_hit", "examples", "suspected"),
    *("epochs", "best_epoch", "catastrophic_overfitting", "audit_n", "audit_broken", "attacked", "adversarial"),
    "predicted_classes",
    *("contest", "worst_class_n", "schema_version"),
)
"""Columns that hold whole numbers, some of them missing."""

TRUTH_VALUES = ("targeted", "conclusive")
"""Columns that hold True or False, some of them missing."""

TYPED = (*WHOLE_NUMBERS, *TRUTH_VALUES)

IN_NAMES = ("model", "poison", "poison_rate", "seed", "condition", "attack", "eps", "corruption", "severity", "digest")
"""Columns of cells.csv that `cell_name` and `unique_cell_names` read."""


def is_missing(value: object) -> bool:
    """Returns whether a table's entry, one value, is empty: None, NaN, or pandas' NA, in a quarter of the time of `pd.isna`."""
    return value is None or value is pd.NA or bool(value != value)  # noqa: PLR0124 - NaN alone differs from itself


def rate_text(rate: Any) -> str:
    """Returns a rate in per cent for a short table, without the sign; empty where it is missing."""
    return "" if is_missing(rate) else f"{100 * rate:.1f}"


def with_column_types(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table whose whole numbers stay whole, and truth values true or false, where some are missing."""
    return table.assign(
        **{name: table[name].astype("boolean" if name in TRUTH_VALUES else "Int64") for name in TYPED if name in table}
    )


@contextmanager
def texts_as_objects() -> Iterator[None]:
    """Keeps the texts of the tables that the block makes as Python's own.

    A report reads small tables row by row, and by condition: that takes a fifth longer where each text is one of Arrow's.
    """
    with pd.option_context("mode.string_storage", "python"):
        yield


def eps_text(eps: float) -> str:
    """Returns a budget as text: a short decimal as it is, another one as a fraction of 255.

    >>> eps_text(8 / 255), eps_text(0.5 / 255), eps_text(0.5), eps_text(0.03)
    ('8/255', '0.5/255', '0.5', '0.03')
    """
    if math.isclose(eps, round(eps, 3), rel_tol=1e-7):
        return f"{round(eps, 3):g}"
    levels = round(eps * 255, 2)
    return f"{levels:g}/255" if math.isclose(eps * 255, levels, rel_tol=1e-6) else f"{eps:.4g}"


def model_label(row: Mapping[Any, Any]) -> str:
    """Returns the name of a model among poisoned and clean ones, e.g. "baseline, backdoor 5 %".

    Poisons can be repeated with other seeds: the name of a poisoned model has the seed where it is not 0.
    """
    if is_missing(row["poison"]):
        return str(row["model"])
    rate = "" if is_missing(row["poison_rate"]) else f" {100 * row['poison_rate']:g} %"
    return f"{row['model']}, {row['poison']}{rate}{_seed(row, ', seed ')}"


def model_labels(table: pd.DataFrame) -> "pd.Series[str]":
    """Returns the name of the model of each row among poisoned and clean ones; each name is made once."""
    named = [name for name in ("model", "poison", "poison_rate", "seed") if name in table]
    keys = list(zip(*(table[name].tolist() for name in named), strict=True))
    labels = {key: model_label(dict(zip(named, key, strict=True))) for key in dict.fromkeys(keys)}
    return pd.Series([labels[key] for key in keys], table.index, dtype=object)


def rows_of_model(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """Returns the rows of a model by its name among poisoned and clean ones.

    In tables of older runs that name stands in the column `model`.
    """
    if "poison" not in table or table.empty:
        return table[table["model"] == label]
    return table[model_labels(table) == label]


def condition_label(row: Mapping[Any, Any]) -> str:
    """Returns the name of a condition, e.g. "clean", "pgd 8/255", "fog 3", "folder street" or "trigger".

    The name of a targeted attack has its target: "pgd 8/255 towards Tomato".
    """
    kind = condition_kind(row["condition"])
    budget = "" if is_missing(row["eps"]) else f" {eps_text(float(row['eps']))}"
    severity = "" if is_missing(row["severity"]) else f" {int(row['severity'])}"
    target = f" towards {row['target_class']}" if kind.is_attack and is_targeted(row) else ""
    return f"{kind.label(row)}{budget}{severity}{target}"


def is_targeted(row: Mapping[Any, Any]) -> bool:
    """Returns whether a row is that of a targeted attack."""
    found = row.get("targeted")
    return not is_missing(found) and bool(found)


def cell_name(row: Mapping[Any, Any]) -> str:
    """Returns a readable file name for a row of cells.csv, e.g. "baseline__pgd__eps-8-255"."""
    parts = [row["model"]]
    if not is_missing(row["poison"]):
        parts.append(poison_name(row))
    parts.append(condition_kind(row["condition"]).label(row))
    if not is_missing(row["eps"]):
        parts.append(f"eps-{eps_text(float(row['eps']))}")
    if not is_missing(row["severity"]):
        parts.append(f"severity-{int(row['severity'])}")
    return "__".join(slug(str(part)) for part in parts)


def poison_name(row: Mapping[Any, Any]) -> str:
    """Returns a readable file name for the poison of a row, e.g. "backdoor-0.05"."""
    rate = "" if is_missing(row["poison_rate"]) else f"-{row['poison_rate']:g}"
    return slug(f"{row['poison']}{rate}{_seed(row, '-seed-')}")


def _seed(row: Mapping[Any, Any], before: str) -> str:
    seed = row.get("seed")
    return "" if is_missing(seed) or seed == 0 else f"{before}{seed}"


def slug(text: str) -> str:
    """Returns a text as part of a file name: letters, digits, ".", "_" and "-" only.

    >>> slug("eps-8/255"), slug("Grün & Rot")
    ('eps-8-255', 'Gr-n-Rot')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "x"


def unique_cell_names(rows: Iterable[Mapping[Any, Any]]) -> dict[str, str]:
    """Returns digest -> file name; names that are equal on some file system end in the start of their digest."""
    names = {str(row["digest"]): cell_name(row) for row in rows}
    uses = Counter(name.lower() for name in names.values())
    return {digest: name if uses[name.lower()] == 1 else f"{name}__{digest[:12]}" for digest, name in names.items()}


def cell_fields(cell: Cell) -> dict[str, Any]:
    """Returns the fields of a cell as table entries: the budget as a decimal in pixel units."""
    fields = {name: getattr(cell, name) for name in type(cell).model_fields}
    targeted = cell.targeted if cell.kind.is_attack else None
    return {**fields, "eps": None if cell.eps is None else float(cell.eps), "targeted": targeted}
