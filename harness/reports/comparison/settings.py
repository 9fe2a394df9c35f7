"""In which settings of an attack two rows differ: then a changed number says nothing about the model."""

from collections.abc import Mapping
from typing import Any

from harness.records import CUMULATIVE
from harness.reports.comparison.side import Row, Side
from harness.reports.names import eps_text, is_missing
from harness.reports.tables.settings import IN_TABLES

MODEL_SETTINGS = ("arch", "recipe", "seed")
"""Columns that are reported where two models differ in them: such models are compared all the same."""


def changed_attack(a: Side, row_a: Row, b: Side, row_b: Row) -> str:
    """Returns in what the attacks of two rows differ, e.g. "steps: 10 -> 20"; empty where nothing is known to differ.

    A field that only one of the suites records came with a newer version of the harness, and says nothing.
    """
    if row_a["condition"] != "attack":
        return ""
    changes: list[tuple[str, Any, Any]] = [("protocol", row_a["protocol"], row_b["protocol"]), *_fields(a, row_a, b, row_b)]
    one, other = (_part(side.suite, "evaluation").get("best_of_iterates") for side in (a, b))
    changes += [("best_of_iterates", one, other)] if None not in (one, other) else []
    if row_a["protocol"] == row_b["protocol"] and row_a["protocol"] in CUMULATIVE:
        changes.append(("budgets up to it", _budgets(a, row_a), _budgets(b, row_b)))
    return _in_words(changes)


def changed_model(row_a: Row, row_b: Row) -> str:
    """Returns in what two trainings differ, as far as the tables say."""
    return _in_words([(name, row_a[name], row_b[name]) for name in MODEL_SETTINGS])


def _fields(a: Side, row_a: Row, b: Side, row_b: Row) -> list[tuple[str, Any, Any]]:
    plugins = [_part(side.suite, "attacks", row["attack"], "plugin") for side, row in ((a, row_a), (b, row_b))]
    if all(plugins):
        return [(str(name), value, plugins[1][name]) for name, value in plugins[0].items() if name in plugins[1]]
    return [(name, row_a[name], row_b[name]) for name in IN_TABLES]


def _part(fields: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for name in path:
        inner = fields.get(name)
        fields = inner if isinstance(inner, Mapping) else {}
    return fields


def _budgets(side: Side, row: Row) -> str:
    return ", ".join(eps_text(eps) for eps in side.budgets(row) if eps <= row["eps"])


def _in_words(changes: list[tuple[str, Any, Any]]) -> str:
    shown = [(name, *("none" if _is_empty(value) else f"{value}" for value in values)) for name, *values in changes]
    return "; ".join(f"{name}: {one} -> {other}" for name, one, other in shown if one != other)


def _is_empty(value: Any) -> bool:
    return value is None or (not isinstance(value, list | tuple | dict) and is_missing(value))
