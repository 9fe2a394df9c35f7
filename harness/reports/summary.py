"""The short tables of a results folder that a terminal shows."""

import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import pandas as pd

from harness.records import FINISHED, Verdict
from harness.reports.load import Results
from harness.reports.names import eps_text, is_missing, model_label, rate_text
from harness.system.messages import cut

LONGEST_REASON = 300
"""Characters of a verdict's reasons; the leaderboard's file has all of them."""


class ShortTable(NamedTuple):
    """A table of texts."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def leaderboard_table(results: Results) -> ShortTable:
    """Returns the leaderboard: accuracies with intervals, cost, and the attack check, with its reasons where it is not PASS."""
    board = results.leaderboard
    budget = next((f"{row['norm']} {eps_text(row['eps'])}" for row in board.to_dict("records") if not is_missing(row["eps"])), "")
    apart = bool(board["attacks_not_met"].notna().any())
    columns = [
        "rank",
        "ranks possible",
        "model",
        "recipe",
        "clean %",
        f"robust % at {budget}" if budget else "robust %",
        "mean robust %",
        "worst class %",
        *(["not met"] if apart else []),
        "passes an example",
        "attack check",
        "why",
    ]
    rows = [
        [
            "" if is_missing(row["rank"]) else str(int(row["rank"])),
            _text(row["rank_range"]),
            model_label(row) if is_missing(row["badge"]) else f"{model_label(row)} [{row['badge']}]",
            str(row["recipe"]),
            _rate(row, "clean_accuracy"),
            _rate(row, "robust_accuracy"),
            rate_text(row["mean_robust_accuracy"]),
            "" if is_missing(row["worst_class"]) else f"{row['worst_class']} {rate_text(row['worst_class_recall'])}",
            *([_text(row["attacks_not_met"])] if apart else []),
            _passes(row),
            _text(row["verdict"]),
            _why(row),
        ]
        for row in board.to_dict("records")
    ]
    return ShortTable(f"{results.suite_name}: leaderboard", columns, rows)


def _text(value: Any) -> str:
    return "" if is_missing(value) else str(value)


def expectations_table(results: Results) -> ShortTable:
    """Returns the suite's expectations with whether they hold."""
    words = {True: "holds", False: "does not hold"}
    rows = [[words.get(row["holds"], "no number"), row["text"], row["found"]] for row in results.expectations.to_dict("records")]
    return ShortTable("Expectations", ["", "expectation", "found"], rows)


def requirements_table(results: Results) -> ShortTable:
    """Returns the suite's requirements with their outcomes, and why where they are not met."""
    rows = [
        [
            str(row["outcome"]),
            str(row["text"]),
            _found(row),
            "" if is_missing(row["reason"]) else cut(row["reason"], LONGEST_REASON),
        ]
        for row in results.requirements.to_dict("records")
    ]
    return ShortTable("Requirements", ["", "requirement", "found", "why"], rows)


def _found(row: dict[Hashable, Any]) -> str:
    return "" if is_missing(row["found"]) else f"{row['found']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def trouble_table(results: Results) -> ShortTable:
    """Returns the cells and detections without numbers, those of the same model and reason in one row."""
    found = [results.cells.assign(what=results.cells["attack"])]
    if not results.detectors.empty:
        found.append(results.detectors.assign(what=results.detectors["detector"]))
    rows = pd.concat([table[["model", "status", "reason", "what"]] for table in found]).fillna("")
    without = rows[~rows["status"].isin(FINISHED)]
    texts = [
        [str(part) for part in (*key, len(group), ", ".join(dict.fromkeys(group["what"])))]
        for key, group in without.groupby(["model", "status", "reason"], sort=False)
    ]
    return ShortTable("Without numbers", ["model", "status", "reason", "rows", "attacks and detectors"], texts)


def _rate(row: dict[Hashable, Any], name: str) -> str:
    if is_missing(row[name]):
        return ""
    return f"{rate_text(row[name])} [{rate_text(row[f'{name}_low'])}, {rate_text(row[f'{name}_high'])}]"


def _why(row: dict[Hashable, Any]) -> str:
    """Returns the reasons of a verdict that asks for one."""
    doubted = row["verdict"] in (Verdict.SUSPECT, Verdict.INVALID) and not is_missing(row["verdict_reasons"])
    return cut(str(row["verdict_reasons"]), LONGEST_REASON) if doubted else ""


def _passes(row: dict[Hashable, Any]) -> str:
    """Returns forward plus backward passes for each example."""
    total = row["forwards_per_example"] + row["backwards_per_example"]
    return "" if math.isnan(total) else f"{total:.0f}"
