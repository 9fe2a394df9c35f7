"""The leaderboard: one row a model, ranked by the worst case over attacks."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.conditions import ATTACK, CLEAN, TRIGGER, names_where
from harness.errors import HarnessError
from harness.metrics import wilson_interval
from harness.records import AUDIT_COLUMNS, Verdict
from harness.reports.load import load_results
from harness.reports.names import MODEL_COLUMNS, WORST_CASE, condition_label, eps_text, is_missing
from harness.reports.tables.corruptions import LOST, mean_corruption_accuracy

SEVERITY = {Verdict.PASS: 1, Verdict.SUSPECT: 2, Verdict.INVALID: 3}
NORMS = ("Linf", "L2", "L1")
CONTEST = ["dataset", "norm", "eps"]
"""Columns that must be equal for models to be ranked against each other."""
ROBUST = ("robust_accuracy", "robust_accuracy_low", "robust_accuracy_high", *AUDIT_COLUMNS)


def leaderboard(cells: pd.DataFrame, sweep: pd.DataFrame, eps: float | None = None) -> pd.DataFrame:
    """Returns one row a model, best first.

    `robust_accuracy` is the worst case over attacks at the reference budget, `mean_robust_accuracy` its mean over the
    budgets of the same norm, and `robust_accuracy[<norm> <eps>]` its value at each budget. A row whose number is
    INVALID ranks behind every other. The columns of an audit are explained at `harness.records.CELL_COLUMNS`.

    Args:
        cells: The table cells.csv.
        sweep: The table sweep.csv.
        eps: The reference budget; by default the middle one of the sweep.
    """
    norm, eps = reference_budget(sweep, eps)
    sweeps = dict(_by_model(sweep))
    rows = [
        {**dict(zip(MODEL_COLUMNS, key, strict=True)), **_model_row(group, sweeps.get(key, sweep.iloc[:0]), norm=norm, eps=eps)}
        for key, group in _by_model(cells)
    ]
    return ranked(pd.DataFrame(rows))


def merge(folders: Sequence[Path], eps: float | None = None) -> pd.DataFrame:
    """Returns one leaderboard over several results folders, with a column `suite`, ranked anew.

    Args:
        folders: Results folders.
        eps: The reference budget; by default the middle one of each sweep.

    Raises:
        HarnessError: if a folder is no results folder.
    """
    boards = []
    for results in map(load_results, folders):
        board = leaderboard(results.cells, results.sweep, eps)
        board.insert(1, "suite", results.suite_name)
        boards.append(board)
    return ranked(pd.concat(boards, ignore_index=True))


def ranked(board: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows in order, with a rank within each data set, norm and reference budget; equals share a rank.

    Models trained on poisoned data come behind the others, however accurate they are, and INVALID numbers behind all.
    Where some models were attacked, those that were not come last and have no rank.
    """
    board = board.drop(columns="rank", errors="ignore")
    keys = [
        board["verdict"].eq(Verdict.INVALID),
        board["poison"].notna(),
        -board["robust_accuracy"].fillna(-1),
        -board["clean_accuracy"].fillna(-1),
    ]
    order = pd.Series(list(zip(*keys, strict=True)), index=board.index)
    contest = board[CONTEST].map(str).agg("|".join, axis=1)
    rank = [int((order[contest == group] < place).sum()) + 1 for group, place in zip(contest, order, strict=True)]
    attacked = board["robust_accuracy"].notna()
    has_numbers = board["clean_accuracy"].notna() & (attacked | ~attacked.groupby(contest).transform("any"))
    board.insert(0, "rank", pd.Series(rank, index=board.index).where(has_numbers).astype("Int64"))
    return (
        board.assign(_contest=contest)
        .sort_values(["_contest", "rank"], kind="stable")
        .drop(columns="_contest")
        .reset_index(drop=True)
    )


def reference_budget(sweep: pd.DataFrame, eps: float | None = None) -> tuple[str | None, float | None]:
    """Returns the norm and the budget that models are compared at; None, None where no worst case was measured.

    Args:
        sweep: The table sweep.csv.
        eps: A budget of the sweep; by default the middle one.

    Raises:
        HarnessError: if the sweep has no such budget.
    """
    worst = sweep[sweep["attack"] == WORST_CASE]
    norm = next((norm for norm in NORMS if norm in set(worst["norm"])), None)
    budgets = [float(budget) for budget in sorted(worst.loc[worst["norm"] == norm, "eps"].unique())]
    if norm is None or not budgets:
        return None, None
    if eps is None:
        return norm, budgets[len(budgets) // 2]
    nearest = min(budgets, key=lambda budget: abs(budget - eps))
    if not math.isclose(nearest, eps, rel_tol=1e-6):
        raise HarnessError(f"eps: expected one of {', '.join(map(eps_text, budgets))}, got {eps_text(eps)}")
    return norm, nearest


def _by_model(table: pd.DataFrame) -> Iterator[tuple[tuple[object, ...], pd.DataFrame]]:
    """Yields the rows of each model under a key in which a missing value is None and so equals itself."""
    for key, group in table.groupby(list(MODEL_COLUMNS), dropna=False, sort=False):
        yield tuple(None if is_missing(part) else part for part in key), group


def _model_row(cells: pd.DataFrame, sweep: pd.DataFrame, *, norm: str | None, eps: float | None) -> dict[str, Any]:
    done = cells[cells["accuracy"].notna()]
    own = done[~done["condition"].isin(names_where(lambda kind: kind.own_examples))]
    n = int(own["n_examples"].max()) if len(own) else None
    clean = float(own["clean_accuracy"].iloc[0]) if len(own) else math.nan
    interval = wilson_interval(round(clean * n), n) if n else (math.nan, math.nan)
    curve = sweep[(sweep["attack"] == WORST_CASE) & (sweep["norm"] == norm)]
    worst = next(iter(curve[curve["eps"] == eps].to_dict("records")), {})
    strongest = strongest_attack(cells, norm=norm, eps=eps)
    verdict, reasons = attack_check(cells, strongest, norm=norm, eps=eps)
    return {
        "target_class": next(iter(cells.loc[~cells["targeted"].fillna(value=False), "target_class"].dropna()), None),
        "n_examples": n,
        "clean_accuracy": clean,
        "clean_accuracy_low": interval[0],
        "clean_accuracy_high": interval[1],
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
        **{
            f"robust_accuracy[{row['norm']} {eps_text(row['eps'])}]": row["robust_accuracy"]
            for row in sweep[sweep["attack"] == WORST_CASE].to_dict("records")
        },
    }


def _costs(attacked: pd.DataFrame, n: int | None) -> dict[str, float]:
    """Returns what all attacks on the model cost: passes for each example, and seconds."""
    if not n or attacked.empty:
        return {"forwards_per_example": math.nan, "backwards_per_example": math.nan, "attack_seconds": math.nan}
    return {
        "forwards_per_example": float(attacked["forwards"].sum()) / n,
        "backwards_per_example": float(attacked["backwards"].sum()) / n,
        "attack_seconds": float(attacked["seconds"].sum()),
    }


def strongest_attack(cells: pd.DataFrame, *, norm: str | None, eps: float | None) -> dict[Hashable, Any] | None:
    """Returns the cell of the attack that by itself leaves least at the budget.

    Of equals the one with the best attack check, then an audited one, then the one that leaves least over all budgets.
    """
    rows = cells[(cells["norm"] == norm) & cells["robust_accuracy"].notna()]
    overall = rows.groupby("attack")["robust_accuracy"].mean()
    at_budget = rows[rows["eps"] == eps].to_dict("records")
    return min(
        at_budget,
        key=lambda cell: (cell["robust_accuracy"], _severity(cell), not _is_audited(cell), overall[cell["attack"]]),
        default=None,
    )


def _is_audited(cell: Mapping[Any, Any]) -> bool:
    return not is_missing(cell["audit_n"])


def _severity(cell: Mapping[Any, Any]) -> int:
    return 0 if is_missing(cell["verdict"]) else SEVERITY[Verdict(cell["verdict"])]


def attack_check(
    cells: pd.DataFrame, strongest: Mapping[Hashable, Any] | None, *, norm: str | None, eps: float | None
) -> tuple[str | None, list[str]]:
    """Returns the worst attack check among the cells of the headline numbers, with its reasons.

    These are the clean cell, the strongest attack's cell, and every INVALID one up to the reference budget. An attack
    without a result at the reference budget is missing from the worst case, so the number is SUSPECT. The reasons always include
    those of a SUSPECT cell of a weaker attack; its check counts where the strongest attack does not supersede it.
    """
    within = (cells["norm"] == norm) & (cells["eps"] <= (eps or 0))
    relevant = cells[(cells["condition"] == CLEAN) | (within & cells["verdict"].eq(Verdict.INVALID))].to_dict("records")
    if strongest is not None and strongest["digest"] not in {cell["digest"] for cell in relevant}:
        relevant.append(dict(strongest))
    doubted = cells[(cells["norm"] == norm) & (cells["eps"] == eps) & cells["verdict"].eq(Verdict.SUSPECT)].to_dict("records")
    weaker = [cell for cell in doubted if strongest is not None and cell["digest"] != strongest["digest"]]
    lost = cells[(cells["norm"] == norm) & (cells["eps"] == eps) & cells["status"].isin(LOST)]
    reasons = [f"{cell['attack']} has no result and is missing from the worst case" for cell in lost.to_dict("records")]
    counted = relevant if _supersedes(strongest) else [*relevant, *weaker]
    severity = max([_severity(cell) for cell in counted] + [SEVERITY[Verdict.SUSPECT]] * bool(reasons), default=0)
    reasons += [
        f"{condition_label(cell)}: {cell['verdict_reasons']}"
        for cell in [*relevant, *weaker]
        if not is_missing(cell["verdict_reasons"])
    ]
    verdict = next((verdict for verdict, place in SEVERITY.items() if place == severity), None)
    return verdict, [reason for reason in reasons if not reason.endswith(": ")]


def _supersedes(strongest: Mapping[Hashable, Any] | None) -> bool:
    """Returns whether the strongest attack supersedes the checks of weaker ones: it takes several gradient steps, or is audited.

    Where an attack without gradients, or with a single one, finds more adversarial images than those that take steps, gradients
    may be masked. Then the worst case is only an upper bound.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3.1.
    """
    if strongest is None or _is_audited(strongest):
        return True
    return not is_missing(strongest["steps"]) and strongest["backwards"] > 0
