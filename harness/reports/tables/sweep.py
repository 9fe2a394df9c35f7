"""The sweep over budgets: robust accuracy of each attack and of the pointwise worst case over attacks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.conditions import ATTACK
from harness.metrics import Flags, share, wilson_interval
from harness.records import AUDIT_COLUMNS, CUMULATIVE
from harness.reports.names import MODEL_COLUMNS, WORST_CASE, is_missing, with_column_types

SWEEP_COLUMNS = (
    *MODEL_COLUMNS,
    *("attack", "targeted", "target_class", "norm", "eps", "protocol", "attacks", "n_examples", "clean_accuracy"),
    *("robust_accuracy", "robust_accuracy_low", "robust_accuracy_high"),
    *("attack_success_rate", "attack_success_rate_low", "attack_success_rate_high"),
    *AUDIT_COLUMNS,
)
"""Columns of sweep.csv, in order; `attacks` names the attacks that a worst case is taken over. The last three are explained at
`CELL_COLUMNS`; a worst case has those of the audited attack that it is taken over."""


class _Outcomes(NamedTuple):
    """The state of each example under one condition, flags (N,)."""

    clean_correct: Flags
    eligible: Flags
    """The examples on which a success counts."""
    is_adversarial: Flags


STATE_COLUMNS = ("clean_correct", "eligible", "fooled")
"""Columns of samples.parquet that hold the fields of `_Outcomes`, in their order."""


def sweep_table(cells: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each model, attack and budget, and one for the worst case over attacks at each budget.

    The worst case is taken example by example: an example is robust if no attack succeeded on it at that budget, and under the
    protocols nested and bisect at no smaller one. A mean over attacks would let a weak attack hide a strong one.

    A success of a targeted attack is a misclassification, so it counts in the worst case. But where it has no success, another
    wrong class may be reachable. So there is no worst case at a budget at which no untargeted attack ran.

    Args:
        cells: The table cells.csv.
        samples: The table samples.parquet, which the outcomes of the examples are read from.
    """
    attacked = cells[(cells["condition"] == ATTACK) & cells["robust_accuracy"].notna() & cells["eps"].notna()]
    states = [samples[name].to_numpy(bool) for name in STATE_COLUMNS] if len(samples) else []
    places = samples.groupby("digest", sort=False, observed=True).indices
    flags = {str(digest): _Outcomes(*(state[rows] for state in states)) for digest, rows in places.items()}
    rows = [_row(cell, flags[str(cell["digest"])]) for cell in attacked.to_dict("records")]
    for _, group in attacked.groupby([*MODEL_COLUMNS, "norm"], dropna=False, sort=False):
        untargeted = group.loc[~group["targeted"].astype(bool), "eps"]
        records = group.to_dict("records")
        rows += [_worst_case(records, float(eps), flags) for eps in sorted(untargeted.unique())]
    return with_column_types(pd.DataFrame(rows, columns=list(SWEEP_COLUMNS)))


def members_of_worst_case(attacked: pd.DataFrame, eps: float) -> pd.DataFrame:
    """Returns the rows that the worst case at a budget is taken over: those at it, and cumulative ones at smaller budgets.

    Args:
        attacked: Rows of cells.csv: one model under attack in one norm.
        eps: The budget.
    """
    rows = zip(attacked["eps"], attacked["protocol"], strict=True)
    return attacked[[_counts(own, protocol, eps) for own, protocol in rows]]


def _counts(own: float, protocol: str, eps: float) -> bool:
    """Returns whether the successes of a row at its own budget count at a budget."""
    return own == eps or (own < eps and protocol in CUMULATIVE)


def _worst_case(group: Sequence[Mapping[Any, Any]], eps: float, flags: Mapping[str, _Outcomes]) -> dict[str, Any]:
    """Returns the row of the worst case over one model's attacks at one budget."""
    members = [row for row in group if _counts(row["eps"], row["protocol"], eps)]
    outcomes = [flags[str(row["digest"])] for row in members]
    clean_correct = np.logical_and.reduce([state.clean_correct for state in outcomes])
    is_adversarial = np.logical_or.reduce([state.is_adversarial for state in outcomes])
    protocols = {row["protocol"] for row in members}
    cell = {
        **next(row for row in members if not row["targeted"]),
        "attack": WORST_CASE,
        "eps": eps,
        "protocol": protocols.pop() if len(protocols) == 1 else "mixed",
        "attacks": "+".join(dict.fromkeys(row["attack"] for row in members)),
    }
    row = _row(cell, _Outcomes(clean_correct, clean_correct, is_adversarial))
    return row | _audit_of_worst_case([member for member in group if member["eps"] == eps], row["robust_accuracy"])


def _audit_of_worst_case(members: Sequence[Mapping[Any, Any]], robust_accuracy: float) -> dict[str, Any]:
    """Returns the audit's columns: what the standard may still take from the audited attack it may take from the worst case."""
    audited = [row for row in members if not is_missing(row["robust_accuracy_floor"])]
    if not audited:
        return dict.fromkeys(AUDIT_COLUMNS, None)
    least = min(audited, key=lambda row: float(row["robust_accuracy"] - row["robust_accuracy_floor"]))
    lost = least["robust_accuracy"] - least["robust_accuracy_floor"]
    return {name: least[name] for name in AUDIT_COLUMNS} | {"robust_accuracy_floor": max(0.0, robust_accuracy - lost)}


def _row(cell: Mapping[Any, Any], state: _Outcomes) -> dict[str, Any]:
    robust = state.clean_correct & ~state.is_adversarial
    successes, eligible = int((state.eligible & state.is_adversarial).sum()), int(state.eligible.sum())
    low, high = wilson_interval(int(robust.sum()), len(robust))
    success_low, success_high = wilson_interval(successes, eligible)
    return {
        "attacks": cell["attack"],
        **cell,
        "n_examples": len(robust),
        "clean_accuracy": share(state.clean_correct),
        "robust_accuracy": share(robust),
        "robust_accuracy_low": low,
        "robust_accuracy_high": high,
        "attack_success_rate": share(state.is_adversarial[state.eligible]),
        "attack_success_rate_low": success_low,
        "attack_success_rate_high": success_high,
    }
