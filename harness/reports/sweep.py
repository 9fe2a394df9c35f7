"""The sweep over budgets: robust accuracy of each attack and of the pointwise worst case over attacks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.metrics import Flags, share, wilson_interval
from harness.reports.names import MODEL_COLUMNS, WORST_CASE

SWEEP_COLUMNS = (
    *MODEL_COLUMNS,
    *("attack", "norm", "eps", "protocol", "attacks", "n_examples", "clean_accuracy"),
    *("robust_accuracy", "robust_accuracy_low", "robust_accuracy_high"),
    *("attack_success_rate", "attack_success_rate_low", "attack_success_rate_high"),
)
"""Columns of sweep.csv, in order; `attacks` names the attacks that a worst case is taken over."""


def sweep_table(cells: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each model, attack and budget, and one for the worst case over attacks at each budget.

    The worst case is taken example by example: an example stands if no attack fooled it at that budget; under the
    nested protocol also at no smaller one. Averages over attacks would let a weak attack hide a strong one.

    Args:
        cells: The table cells.csv.
        samples: The table samples.parquet, which the outcomes of the examples are read from.
    """
    attacked = cells[(cells["condition"] == "attack") & cells["robust_accuracy"].notna() & cells["eps"].notna()]
    flags = {
        str(digest): (group["clean_correct"].to_numpy(bool), group["fooled"].to_numpy(bool))
        for digest, group in samples.groupby("digest", sort=False, observed=True)
    }
    rows = [_row(cell, *flags[str(cell["digest"])]) for cell in attacked.to_dict("records")]
    for _, group in attacked.groupby([*MODEL_COLUMNS, "norm"], dropna=False, sort=False):
        rows += [_worst_case(group, float(eps), flags) for eps in sorted(group["eps"].unique())]
    return pd.DataFrame(rows, columns=list(SWEEP_COLUMNS))


def _worst_case(group: pd.DataFrame, eps: float, flags: dict[str, tuple[Flags, Flags]]) -> dict[str, Any]:
    """Joins the outcomes of one model's attacks at one budget."""
    counts = (group["eps"] == eps) | ((group["eps"] < eps) & (group["protocol"] == "nested"))
    members = group[counts]
    outcomes = [flags[str(digest)] for digest in members["digest"]]
    clean_correct = np.logical_and.reduce([clean for clean, _ in outcomes])
    fooled = np.logical_or.reduce([fooled for _, fooled in outcomes])
    protocols = members["protocol"].unique()
    cell = {
        **members.iloc[0].to_dict(),
        "attack": WORST_CASE,
        "eps": eps,
        "protocol": protocols[0] if len(protocols) == 1 else "mixed",
        "attacks": "+".join(members["attack"].unique()),
    }
    return _row(cell, clean_correct, fooled)


def _row(cell: Mapping[Any, Any], clean_correct: Flags, fooled: Flags) -> dict[str, Any]:
    robust = clean_correct & ~fooled
    successes, eligible = int((clean_correct & fooled).sum()), int(clean_correct.sum())
    low, high = wilson_interval(int(robust.sum()), len(robust))
    success_low, success_high = wilson_interval(successes, eligible)
    return {
        "attacks": cell["attack"],
        **cell,
        "n_examples": len(robust),
        "clean_accuracy": share(clean_correct),
        "robust_accuracy": share(robust),
        "robust_accuracy_low": low,
        "robust_accuracy_high": high,
        "attack_success_rate": share(fooled[clean_correct]),
        "attack_success_rate_low": success_low,
        "attack_success_rate_high": success_high,
    }
