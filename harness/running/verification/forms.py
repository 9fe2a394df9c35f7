"""How the rows of the tables are told apart, and named in messages."""

from collections.abc import Mapping
from typing import Any

from harness.records import AUDIT_COLUMNS, Cell
from harness.reports.load import LATER, LATER_OF_LEADERBOARD, LATER_OF_SWEEP
from harness.reports.names import MODEL_COLUMNS, cell_name, eps_text, model_label
from harness.running.verification.comparison import Form, Row


def cell_label(cell: Cell) -> str:
    """Returns the name of a cell, as in the names of its files."""
    fields: dict[str, Any] = {name: getattr(cell, name) for name in Cell.model_fields}
    return cell_name({**fields, "eps": None if cell.eps is None else float(cell.eps)})


def _of_cell(row: Row) -> str:
    fields: dict[str, Any] = {name: value or None for name, value in row.items()}
    for name in ("eps", "poison_rate", "severity", "seed"):
        fields[name] = _number(row, name)
    label = cell_name({**fields, "seed": int(fields["seed"] or 0)})
    return f"{label}, class {row['class']}" if "class" in row else label


def _of_sweep(row: Row) -> str:
    return f"{_of_model(row)}, {row['attack']} {row['norm']} {eps_text(float(row['eps']))}"


def _of_budget(row: Row) -> str:
    return f"{_of_model(row)}, {row['norm']} {eps_text(float(row['eps']))}"


def _of_transfer(row: Row) -> str:
    return f"{row['attack']} {row['norm']} {eps_text(float(row['eps']))} from {row['source']} on {row['target']}"


def _of_stage(row: Row) -> str:
    return f"{_of_sweep(row)}, {row['stage']}"


def _of_model(row: Row) -> str:
    fields: dict[str, Any] = {name: row.get(name) or None for name in MODEL_COLUMNS}
    return model_label({**fields, "poison_rate": _number(row, "poison_rate"), "seed": int(_number(row, "seed") or 0)})


def _number(row: Row, name: str) -> float | None:
    text = row.get(name, "")
    return float(text) if text else None


FORMS: Mapping[str, Form] = {
    "cells": Form(("digest",), _of_cell, LATER),
    "per_class": Form(("digest", "class"), _of_cell),
    "before_after": Form(("digest",), _of_cell),
    "sweep": Form((*MODEL_COLUMNS, "attack", "target_class", "norm", "eps"), _of_sweep, LATER_OF_SWEEP),
    "best_known": Form((*MODEL_COLUMNS, "norm", "eps"), _of_budget),
    "leaderboard": Form(MODEL_COLUMNS, _of_model, (*LATER_OF_LEADERBOARD, *AUDIT_COLUMNS)),
    "transfer": Form(("source", "target", "attack", "norm", "eps"), _of_transfer, MODEL_COLUMNS),
    "stages": Form(("digest", "stage"), _of_stage),
    "expectations": Form(("text",), lambda row: row["text"]),
    "requirements": Form(("model", "text"), lambda row: f"{row['model']}, {row['text']}"),
    "confusion": Form(("true_class",), lambda row: f"class {row['true_class']}"),
    "roc": Form((), lambda row: f"a point of class {row['class']}"),
}
"""Table, or folder of tables -> how its rows are told apart."""
