"""The reference: the norm and the budget that models are compared at."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pandas as pd

from harness.errors import HarnessError
from harness.reports.names import WORST_CASE, eps_text
from harness.system.messages import shown
from harness.threat.ball import Norm

NORMS = tuple(norm.value for norm in Norm)
"""In the order of preference where a suite has several."""


def reference(sweep: pd.DataFrame, suite: Mapping[str, Any], eps: float | None = None) -> tuple[str | None, float | None]:
    """Returns the norm and the budget that the models of a suite are compared at; None, None where no worst case was measured.

    Args:
        sweep: The table sweep.csv.
        suite: The suite as provenance.json has it. Its budget stays the reference where no model has a number at it.
        eps: A budget of the sweep to use in its place.

    Raises:
        HarnessError: if the sweep has no such budget, or the suite's is none.
    """
    wanted = suite.get("reference_budget")
    norm, middle = reference_budget(sweep, eps)
    if eps is not None or wanted is None or norm is None:
        return norm, middle
    try:
        at = float(Fraction(str(wanted)))
    except ValueError as error:
        raise HarnessError(f"suite.reference_budget: expected a budget, found {shown(wanted)}") from error
    budgets = sweep.loc[sweep["norm"] == norm, "eps"]
    return norm, next((float(budget) for budget in budgets if math.isclose(budget, at, rel_tol=1e-6)), at)


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
