"""Whether a suite's expectations hold, by the numbers in its tables."""

import math
from collections.abc import Iterable

import pandas as pd

from harness.conditions import condition_kind
from harness.records import Expectation
from harness.suites.entries import ExpectationEntry, Metric

EPS_TOLERANCE = 1e-9
COST: Metric = "clean_accuracy_drop"
"""The metric that is a column of poisons.csv; the others are columns of cells.csv."""


def judge_expectations(
    entries: Iterable[ExpectationEntry], cells: pd.DataFrame, poisons: pd.DataFrame
) -> tuple[Expectation, ...]:
    """Returns each expectation with whether it holds; None where a number it needs is missing.

    Args:
        entries: The suite's expectations.
        cells: The table of cells.csv.
        poisons: The table of poisons.csv.
    """
    return tuple(_judge(entry, poisons if entry.metric == COST else cells) for entry in entries)


def _judge(entry: ExpectationEntry, table: pd.DataFrame) -> Expectation:
    value = _number(table, entry, entry.model)
    rival = math.nan if entry.above is None else _number(table, entry, entry.above)
    needed = [value] if entry.above is None else [value, rival]
    found = f"{entry.model}: {_shown(value)}" + ("" if entry.above is None else f", {entry.above}: {_shown(rival)}")
    if any(math.isnan(number) for number in needed):
        return Expectation(_words(entry), None, found)
    holds = (
        (entry.at_least is None or value >= entry.at_least)
        and (entry.at_most is None or value <= entry.at_most)
        and (entry.above is None or value >= rival + entry.by)
    )
    return Expectation(_words(entry), holds, found)


def _number(table: pd.DataFrame, entry: ExpectationEntry, model: str) -> float:
    """Returns the number of one model; of repetitions the mean, and none where one of them has none."""
    of_model = table[table["model"] == model]
    poisoned = (of_model["poison"] == entry.poison) & (of_model["poison_rate"] == entry.rate)
    wanted = of_model[of_model["poison"].isna() if entry.poison is None else poisoned]
    rows = wanted if entry.metric == COST else _rows(wanted, entry)
    return float(rows[entry.metric].astype(float).mean(skipna=False))


def _rows(cells: pd.DataFrame, entry: ExpectationEntry) -> pd.DataFrame:
    if entry.attack is None or entry.eps is None:
        return cells[cells["condition"] == entry.condition]
    return cells[(cells["attack"] == entry.attack) & ((cells["eps"].astype(float) - float(entry.eps)).abs() < EPS_TOLERANCE)]


def _words(entry: ExpectationEntry) -> str:
    place = condition_kind(entry.condition).in_words if entry.attack is None else f"under {entry.attack} at eps {entry.eps}"
    model = entry.model if entry.rate is None else f"{entry.model}, {entry.poison} {100 * entry.rate:g} %,"
    bounds = [
        *([f"is at least {entry.at_least:g}"] if entry.at_least is not None else []),
        *([f"is at most {entry.at_most:g}"] if entry.at_most is not None else []),
        *([f"surpasses that of {entry.above} by {entry.by:g} or more"] if entry.above is not None else []),
    ]
    return f"{entry.metric} of {model} {place} {' and '.join(bounds)}"


def _shown(value: float) -> str:
    return "no number" if math.isnan(value) else f"{value:.3f}"
