"""What a run measured of each example that a requirement is about."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.conditions import ATTACK, CLEAN
from harness.metrics import Floats
from harness.reports.decision.intervals import PairCounts
from harness.reports.load import Results
from harness.reports.names import MODEL_COLUMNS, is_missing
from harness.reports.tables.corruptions import common_corruptions
from harness.reports.tables.sweep import members_of_worst_case
from harness.suites.requirements import WORST_CASE, RequirementEntry

EPS_TOLERANCE = 1e-9
MEANS = "mean_corruption_accuracy"


class Subject(NamedTuple):
    """A trained model that a requirement is judged on."""

    model: str
    """The label in the suite."""
    poison: str | None = None
    rate: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Condition:
    """The rows of cells.csv that a requirement's number is made of, of one model."""

    rows: pd.DataFrame
    norm: str | None = None
    """Norm of the worst case."""

    @property
    def lacks(self) -> str:
        """Returns why there is no number; empty where every row has one."""
        if self.rows.empty:
            return "the grid has no such cell"
        lost = self.rows[self.rows["accuracy"].isna()]
        return "" if lost.empty else _reason(next(iter(lost.to_dict("records"))))


@dataclass(frozen=True)
class Measured:
    """A share: of the examples that count, what each adds to it, from 0 to 1."""

    total: float
    n: int
    examples: pd.Series | None = None
    """The values (n,) by the examples' names; None where only the tables of shares are there."""

    @property
    def value(self) -> float:
        """The share; NaN of no example."""
        return self.total / self.n if self.n else math.nan


def _reason(row: dict[Any, Any]) -> str:
    why = "" if is_missing(row["reason"]) else f": {row['reason']}"
    return f"its cell is {str(row['status']).replace('_', ' ')}{why}"


def subjects(results: Results, entry: RequirementEntry) -> Iterator[Subject]:
    """Yields the models that a requirement is about: the named one or all, each repetition of a poison by itself."""
    cells = results.cells
    for model in [entry.model] if entry.model is not None else cells["model"].unique():
        if model == entry.above:
            continue
        own = cells[(cells["model"] == model) & _of_poison(cells, entry.poison, entry.rate)]
        for seed in own["seed"].unique() if len(own) else [0]:
            yield Subject(str(model), entry.poison, entry.rate, int(seed))


def _of_poison(cells: pd.DataFrame, poison: str | None, rate: float | None) -> "pd.Series[bool]":
    if poison is None:
        return cells["poison"].isna()
    return (cells["poison"] == poison) & np.isclose(cells["poison_rate"].astype(float), float(rate or 0))


def of_subject(cells: pd.DataFrame, subject: Subject) -> pd.DataFrame:
    """Returns the rows of a model."""
    own = (cells["model"] == subject.model) & (cells["seed"] == subject.seed)
    return cells[own & _of_poison(cells, subject.poison, subject.rate)]


def identity(results: Results, subject: Subject) -> dict[str, Any]:
    """Returns the columns that identify a model in every table, but for its label."""
    rows = of_subject(results.cells, subject)
    known = {} if rows.empty else rows.iloc[0].to_dict()
    return {name: None if is_missing(known.get(name)) else known[name] for name in MODEL_COLUMNS if name != "model"}


def condition_of(results: Results, entry: RequirementEntry, subject: Subject) -> Condition:
    """Returns the rows of cells.csv that a requirement's number is made of."""
    cells = of_subject(results.cells, subject)
    if entry.metric == MEANS:
        return Condition(common_corruptions(cells))
    if entry.attack == WORST_CASE:
        return _worst_case(cells, entry)
    if entry.attack is not None:
        return Condition(cells[(cells["condition"] == ATTACK) & (cells["attack"] == entry.attack) & _at(cells, entry)])
    if entry.corruption is not None:
        rows = cells[(cells["condition"] == "corruption") & (cells["corruption"] == entry.corruption)]
        return Condition(rows if entry.severity is None else rows[rows["severity"] == entry.severity])
    if entry.folder is not None:
        return Condition(cells[(cells["condition"] == "folder") & (cells["attack"] == entry.folder)])
    return Condition(cells[cells["condition"] == entry.condition])


def _at(cells: pd.DataFrame, entry: RequirementEntry) -> "pd.Series[bool]":
    return (cells["eps"].astype(float) - float(entry.eps or 0)).abs() < EPS_TOLERANCE


def _worst_case(cells: pd.DataFrame, entry: RequirementEntry) -> Condition:
    """Returns the attacks at the budget with numbers, and cumulative ones at smaller budgets; none without an untargeted one."""
    attacked = cells[(cells["condition"] == ATTACK) & cells["robust_accuracy"].notna()]
    if entry.norm is not None:
        attacked = attacked[attacked["norm"] == entry.norm.value]
    untargeted = attacked[_at(attacked, entry) & ~attacked["targeted"].fillna(value=False).astype(bool)]
    if untargeted.empty:
        return Condition(attacked.iloc[:0])
    norm, eps = untargeted["norm"].iloc[0], float(untargeted["eps"].iloc[0])
    return Condition(members_of_worst_case(attacked[attacked["norm"] == norm], eps), str(norm))


def measure(results: Results, entry: RequirementEntry, condition: Condition, class_name: str | None = None) -> Measured:
    """Returns the share that a requirement is about.

    Args:
        results: The tables of the run.
        entry: The requirement.
        condition: Its rows, all of which have numbers.
        class_name: The class that it is of; None for all examples.

    Raises:
        HarnessError: if samples.parquet is damaged.
    """
    if not results.has_samples:
        return _from_tables(results, entry, condition, class_name)
    frames = [results.samples_of(str(digest)) for digest in condition.rows["digest"]]
    counted, values = _values(entry, condition, frames)
    if class_name is not None:
        names = list(results.provenance["class_names"])
        counted = counted & (frames[0]["label"].to_numpy() == names.index(class_name))
    names_of = frames[0]["example_id"].astype(str) + "|" + frames[0]["content_hash"].astype(str)
    series = pd.Series(values[counted], index=names_of.to_numpy()[counted])
    return Measured(float(series.sum()), len(series), series)


def _values(
    entry: RequirementEntry, condition: Condition, frames: list[pd.DataFrame]
) -> tuple["np.ndarray[Any, np.dtype[np.bool_]]", Floats]:
    """Returns which examples (N,) count, and what each adds to the share."""
    column = partial(_column, frames)
    everything = np.ones(len(frames[0]), dtype=bool)
    if entry.metric == "clean_accuracy":
        return everything, column("clean_correct")[0].astype(float)
    if entry.metric in ("robust_accuracy", "attack_success_rate"):
        success = np.logical_or.reduce(column("fooled"))
        right = np.logical_and.reduce(column("clean_correct"))
        if entry.metric == "robust_accuracy":
            return everything, (right & ~success).astype(float)
        return right if entry.attack == WORST_CASE else column("eligible")[0], success.astype(float)
    correct = column("correct")
    if entry.metric == MEANS:
        return everything, _mean_over_corruptions(condition.rows, correct)
    return everything, np.mean(correct, axis=0)


def _column(frames: list[pd.DataFrame], name: str) -> "list[np.ndarray[Any, np.dtype[np.bool_]]]":
    return [frame[name].to_numpy(bool) for frame in frames]


def _mean_over_corruptions(rows: pd.DataFrame, correct: "list[np.ndarray[Any, np.dtype[np.bool_]]]") -> Floats:
    """Returns of each example the share of conditions it is right under; each corruption counts once, as in the table."""
    names = rows["corruption"].tolist()
    by_corruption = [np.mean([it for it, own in zip(correct, names, strict=True) if own == name], axis=0) for name in set(names)]
    return np.asarray(np.mean(by_corruption, axis=0), dtype=float)


def _from_tables(results: Results, entry: RequirementEntry, condition: Condition, class_name: str | None) -> Measured:
    """Returns the same from the tables of shares, as far as they tell it, where samples.parquet was left out of a copy."""
    row, alone = condition.rows.iloc[0], len(condition.rows) == 1
    n = int(row["n_examples"])
    if class_name is not None:
        of_cell = results.per_class[(results.per_class["digest"] == row["digest"]) & (results.per_class["class"] == class_name)]
        known = alone and len(of_cell) == 1
        return _share(of_cell[entry.metric].iloc[0], int(of_cell["support"].iloc[0])) if known else Measured(math.nan, 0)
    if entry.attack == WORST_CASE:
        row, alone = _worst_row(results, condition, entry), True
    if entry.metric == MEANS:
        return _share(condition.rows.groupby("corruption")["accuracy"].mean().mean(), n)
    if entry.metric == "attack_success_rate":
        plain = entry.attack is not None and not bool(row["targeted"])
        return _share(row[entry.metric], round(float(row["clean_accuracy"]) * n)) if plain else Measured(math.nan, 0)
    return _share(row[entry.metric] if alone else condition.rows[entry.metric].mean(), n)


def _share(value: float, n: int) -> Measured:
    total = float(value) * n
    whole = round(total)
    return Measured(float(whole) if math.isclose(total, whole, abs_tol=1e-6) else total, n)


def _worst_row(results: Results, condition: Condition, entry: RequirementEntry) -> "pd.Series[Any]":
    sweep, first = results.sweep, condition.rows.iloc[0]
    same = reduce(
        lambda kept, name: kept & ((sweep[name] == first[name]) | (sweep[name].isna() & pd.isna(first[name]))),
        ("dataset", "model", "poison", "poison_rate", "seed"),
        (sweep["attack"] == WORST_CASE) & (sweep["norm"] == condition.norm) & _at(sweep, entry),
    )
    return sweep[same].iloc[0]


def pairs(one: Measured, other: Measured) -> PairCounts | None:
    """Returns on which of the same examples two models are right; None where the examples are not the same, or not known."""
    if one.examples is None or other.examples is None or list(one.examples.index) != list(other.examples.index):
        return None
    first, second = one.examples.to_numpy() > 0, other.examples.to_numpy() > 0
    return PairCounts(
        int((first & second).sum()), int((first & ~second).sum()), int((~first & second).sum()), int((~first & ~second).sum())
    )


def of_runtime(results: Results, entry: RequirementEntry, condition: Condition) -> Measured | None:
    """Returns the share in a runtime, from crossruntime.csv; None where no current cross-check has it."""
    table = results.crossruntime
    if table.empty or condition.rows.empty:
        return None
    row = condition.rows.iloc[0]
    own = (table["digest"] == row["digest"]) & (table["condition"] == (row["condition"] if entry.place else CLEAN))
    found = table[own & (table["runtime"] == entry.runtime) & (table["precision"] == entry.precision)]
    if len(found) != 1 or is_missing(found[entry.metric].iloc[0]):
        return None
    return _share(found[entry.metric].iloc[0], int(found["n_examples"].iloc[0]))
