"""Judges a suite's expectations by the numbers in its table of cells."""

import math
from collections.abc import Iterable

import pandas as pd

from harness.entries import ExpectationEntry
from harness.records import Expectation

EPS_TOLERANCE = 1e-9


def judge_expectations(entries: Iterable[ExpectationEntry], cells: pd.DataFrame) -> tuple[Expectation, ...]:
    """Returns each expectation with whether it holds; None where a number it needs is missing.

    Args:
        entries: The suite's expectations.
        cells: The table of cells.csv.
    """
    return tuple(_judge(entry, cells) for entry in entries)


def _judge(entry: ExpectationEntry, cells: pd.DataFrame) -> Expectation:
    value = _number(cells, entry, entry.model)
    rival = math.nan if entry.above is None else _number(cells, entry, entry.above)
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


def _number(cells: pd.DataFrame, entry: ExpectationEntry, model: str) -> float:
    rows = cells[(cells["model"] == model) & cells["poison"].isna()]
    if entry.attack is None or entry.eps is None:
        rows = rows[rows["condition"] == "clean"]
    else:
        rows = rows[(rows["attack"] == entry.attack) & ((rows["eps"].astype(float) - float(entry.eps)).abs() < EPS_TOLERANCE)]
    return float(rows[entry.metric].iloc[0]) if len(rows) else math.nan


def _words(entry: ExpectationEntry) -> str:
    place = "on clean images" if entry.attack is None else f"under {entry.attack} at eps {entry.eps}"
    claims = [
        *([f"is at least {entry.at_least:g}"] if entry.at_least is not None else []),
        *([f"is at most {entry.at_most:g}"] if entry.at_most is not None else []),
        *([f"surpasses that of {entry.above} by {entry.by:g} or more"] if entry.above is not None else []),
    ]
    return f"{entry.metric} of {entry.model} {place} {' and '.join(claims)}"


def _shown(value: float) -> str:
    return "no number" if math.isnan(value) else f"{value:.3f}"
