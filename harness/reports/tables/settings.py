"""The settings of attacks in words, which say whether two models met the same attacks."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.reports.names import eps_text, is_missing, is_targeted

IN_TABLES = ("steps", "restarts", "alpha")
"""Columns of settings, which say something where the suite is not recorded."""


def attack_settings(rows: pd.DataFrame, suite: Mapping[str, Any]) -> str:
    """Returns the settings of one attack on one model up to a budget, e.g. "pgd(restarts=1, steps=10), nested at 2/255, 4/255".

    The label of the attack in its suite is left out where the suite tells what stands behind it. Under the protocols nested
    and bisect a success at a smaller budget counts, so these budgets are settings too.

    Args:
        rows: Rows of cells.csv, of the attack on the model, at the budget and, where they count in it, at smaller ones.
        suite: The suite as provenance.json has it.
    """
    row = rows.sort_values("eps").iloc[-1].to_dict()
    known = suite.get("attacks")
    entry = known.get(row["attack"]) if isinstance(known, Mapping) else None
    plugin = entry.get("plugin") if isinstance(entry, Mapping) else None
    named = _call(plugin) if isinstance(plugin, Mapping) else _by_columns(row)
    target = f" towards {row['target_class']}" if is_targeted(row) else ""
    budgets = ", ".join(eps_text(float(eps)) for eps in sorted(rows["eps"].unique()))
    evaluation = suite.get("evaluation")
    last = isinstance(evaluation, Mapping) and evaluation.get("best_of_iterates") is False
    return f"{named}{target}, {row['protocol']} at {budgets}{', last iterate' if last else ''}"


def _call(plugin: Mapping[str, Any]) -> str:
    fields = ", ".join(f"{name}={_value(value)}" for name, value in sorted(plugin.items()) if name != "name")
    return f"{plugin.get('name', 'attack')}({fields})"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _by_columns(row: Mapping[Any, Any]) -> str:
    fields = ", ".join(f"{name}={row[name]:g}" for name in IN_TABLES if not is_missing(row[name]))
    return f"{row['attack']}({fields})"
