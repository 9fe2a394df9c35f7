"""The leaderboard: one row a model, ranked by the worst case over attacks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from harness.conditions import ATTACK, CLEAN, TRIGGER, names_where
from harness.errors import HarnessError
from harness.metrics import wilson_interval
from harness.records import AUDIT_COLUMNS, SCHEMA_VERSION
from harness.reports.load import Results, load_results, reading_tables
from harness.reports.names import MODEL_COLUMNS, WORST_CASE, eps_text, is_missing, model_label
from harness.reports.tables.attack_check import attack_check, strongest_attack
from harness.reports.tables.classes import WORST_CLASS, classes_on_clean_images, worst_class
from harness.reports.tables.corruptions import mean_corruption_accuracy
from harness.reports.tables.examples import Examples, worst_case_rows
from harness.reports.tables.ranking import DIFFERENCE, FIRST, Entrants, ranked
from harness.reports.tables.reference import reference
from harness.reports.tables.settings import attack_settings

LEADERBOARD_COLUMNS = (
    *FIRST,
    *MODEL_COLUMNS,
    *("target_class", "n_examples", "clean_accuracy", "clean_accuracy_low", "clean_accuracy_high", "norm", "eps"),
    *("robust_accuracy", "robust_accuracy_low", "robust_accuracy_high", *AUDIT_COLUMNS, "attacks", "strongest_attack"),
    *("mean_robust_accuracy", "mean_corruption_accuracy", "backdoor_success_rate"),
    *("forwards_per_example", "backwards_per_example", "attack_seconds", "verdict", "verdict_reasons", "protocol"),
    *(*WORST_CLASS, "attack_settings", "data_digest", "schema_version", "attacks_not_met", "rank_note", *DIFFERENCE),
    "robust_accuracy[<norm> <eps>]",
)
"""Columns of leaderboard.csv, in order; the last one stands for one column for each norm and budget."""
ROBUST = ("robust_accuracy", "robust_accuracy_low", "robust_accuracy_high", *AUDIT_COLUMNS)


def leaderboard(
    cells: pd.DataFrame,
    sweep: pd.DataFrame,
    eps: float | None = None,
    *,
    per_class: pd.DataFrame | None = None,
    samples: pd.DataFrame | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Returns one row a model, contest by contest, best first; see `harness.reports.tables.ranking.ranked`.

    `robust_accuracy` is the worst case over attacks at the reference budget, `mean_robust_accuracy` its mean over the
    budgets of the same norm, and `robust_accuracy[<norm> <eps>]` its value at each budget. The columns of an audit are explained
    at `harness.records.CELL_COLUMNS`.

    Args:
        cells: The table cells.csv.
        sweep: The table sweep.csv.
        eps: The reference budget; by default the suite's, else the middle one of the sweep.
        per_class: The table per_class.csv; without it no row has a worst class.
        samples: The table samples.parquet; without it no row has a rank range.
        provenance: What provenance.json holds: the settings of the attacks and the reference budget.
    """
    return ranked(entrants(cells, sweep, eps, per_class=per_class, samples=samples, provenance=provenance))


def leaderboard_of(results: Results) -> pd.DataFrame:
    """Returns the leaderboard of a results folder, made anew from its other tables."""
    return ranked(entrants_of(results))


def entrants_of(results: Results, eps: float | None = None) -> Entrants:
    """Returns the models of a results folder before they are ranked.

    Raises:
        HarnessError: if a table is missing or damaged, or the sweep has no such budget.
    """
    return entrants(
        results.cells,
        results.sweep,
        eps,
        per_class=results.per_class,
        samples=results.samples if results.has_samples else None,
        provenance=results.provenance,
    )


def entrants(
    cells: pd.DataFrame,
    sweep: pd.DataFrame,
    eps: float | None = None,
    *,
    per_class: pd.DataFrame | None = None,
    samples: pd.DataFrame | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Entrants:
    """Returns the models of a run before they are ranked; for the arguments see `leaderboard`."""
    known = provenance or {}
    suite: Mapping[str, Any] = known.get("suite") or {}
    norm, eps = reference(sweep, suite, eps)
    sweeps, examples = dict(_by_model(sweep)), Examples(cells, samples, known)
    classes = classes_on_clean_images(cells, per_class)
    rows, met, right = [], [], []
    for key, group in _by_model(cells):
        numbers = _model_row(group, sweeps.get(key, sweep.iloc[:0]), norm=norm, eps=eps)
        members = worst_case_rows(group, norm=norm, eps=eps)
        here = members[members["eps"] == eps]["attack"].unique()
        met.append({attack_settings(members[members["attack"] == label], suite): str(label) for label in here})
        right.append(examples.right(group, members))
        judged = {
            "attack_settings": "; ".join(sorted(met[-1])) or None,
            "data_digest": examples.digest,
            "schema_version": known.get("schema_version", SCHEMA_VERSION),
        }
        rows.append({**dict(zip(MODEL_COLUMNS, key, strict=True)), **numbers, **worst_class(group, classes), **judged})
    return Entrants(pd.DataFrame(rows), tuple(met), tuple(right))


def merge(folders: Sequence[Path], eps: float | None = None) -> pd.DataFrame:
    """Returns one leaderboard over several results folders, with a column `suite`, ranked anew.

    Args:
        folders: Results folders.
        eps: The reference budget; by default that of each suite, else the middle one of each sweep.

    Raises:
        HarnessError: if a folder is no results folder, or a model is in two of them.
    """
    runs = [load_results(folder) for folder in folders]
    check_no_model_twice(runs)
    parts = []
    for results in runs:
        with reading_tables(results.folder):
            parts.append(entrants_of(results, eps))
        parts[-1].table.insert(0, "suite", results.suite_name)
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return ranked(Entrants(table, tuple(chain(*(it.met for it in parts))), tuple(chain(*(it.right for it in parts)))))


def check_no_model_twice(runs: Sequence[Results]) -> None:
    """Checks that no two runs hold the same model: of one suite and name, or with a cell that was computed once for both.

    Raises:
        HarnessError: if they do; names the models and the folders.
    """
    seen: dict[tuple[str, ...], tuple[Path, str]] = {}
    found = []
    for results in runs:
        own: dict[tuple[str, ...], tuple[Path, str]] = {}
        for key, group in _by_model(results.cells):
            label = model_label(group.iloc[0].to_dict())
            names = [("model", results.suite_name, *map(str, key))]
            names += [("cell", str(digest)) for digest in group.loc[group["accuracy"].notna(), "digest"]]
            if (twin := next((seen[name] for name in names if name in seen), None)) is not None:
                found.append(f"{label} of {results.folder} is {twin[1]} of {twin[0]}")
            own |= dict.fromkeys(names, (results.folder, label))
        seen |= own
    if found:
        raise HarnessError(f"expected each model once, found duplicates: {'; '.join(found)}")


def _by_model(table: pd.DataFrame) -> Iterator[tuple[tuple[object, ...], pd.DataFrame]]:
    """Yields the rows of each model under a key in which a missing value is None and so equals itself."""
    for key, group in table.groupby(list(MODEL_COLUMNS), dropna=False, sort=False):
        yield tuple(None if is_missing(part) else part for part in key), group


def _model_row(cells: pd.DataFrame, sweep: pd.DataFrame, *, norm: str | None, eps: float | None) -> dict[str, Any]:
    done = cells[cells["accuracy"].notna()]
    own = done[~done["condition"].isin(names_where(lambda kind: kind.own_examples))]
    n = int(own["n_examples"].max()) if len(own) else None
    clean = float(own["clean_accuracy"].iloc[0]) if len(own) else math.nan
    low, high = _interval_of_clean(own, clean, n)
    curve = sweep[(sweep["attack"] == WORST_CASE) & (sweep["norm"] == norm)]
    worst = next(iter(curve[curve["eps"] == eps].to_dict("records")), {})
    strongest = strongest_attack(cells, norm=norm, eps=eps)
    verdict, reasons = attack_check(cells, strongest, norm=norm, eps=eps)
    return {
        "target_class": next(iter(cells.loc[~cells["targeted"].fillna(value=False), "target_class"].dropna()), None),
        "n_examples": n,
        "clean_accuracy": clean,
        "clean_accuracy_low": low,
        "clean_accuracy_high": high,
        "norm": norm,
        "eps": eps,
        **{name: worst.get(name, math.nan) for name in ROBUST},
        "attacks": worst.get("attacks"),
        "strongest_attack": None if strongest is None else strongest["attack"],
        "mean_robust_accuracy": curve["robust_accuracy"].mean(),
        "mean_corruption_accuracy": mean_corruption_accuracy(cells),
        "backdoor_success_rate": done.loc[done["condition"] == TRIGGER, "attack_success_rate"].max(),
        **_costs(done[done["condition"] == ATTACK], n),
        "verdict": verdict,
        "verdict_reasons": "; ".join(reasons),
        "protocol": worst.get("protocol"),
        **{
            f"robust_accuracy[{row['norm']} {eps_text(row['eps'])}]": row["robust_accuracy"]
            for row in sweep[sweep["attack"] == WORST_CASE].to_dict("records")
        },
    }


def _interval_of_clean(own: pd.DataFrame, clean: float, n: int | None) -> tuple[float, float]:
    """Returns the interval of clean accuracy: that of the clean row, which cells.csv has, where the model has one."""
    rows = own[own["condition"] == CLEAN].to_dict("records")
    if rows:
        return float(rows[0]["accuracy_low"]), float(rows[0]["accuracy_high"])
    return wilson_interval(round(clean * n), n) if n else (math.nan, math.nan)


def _costs(attacked: pd.DataFrame, n: int | None) -> dict[str, float]:
    """Returns what all attacks on the model cost: passes for each example, and seconds."""
    if not n or attacked.empty:
        return {"forwards_per_example": math.nan, "backwards_per_example": math.nan, "attack_seconds": math.nan}
    return {
        "forwards_per_example": float(attacked["forwards"].sum()) / n,
        "backwards_per_example": float(attacked["backwards"].sum()) / n,
        "attack_seconds": float(attacked["seconds"].sum()),
    }
