"""How far the attack behind a number can be trusted: what a stronger one may still take, and whether it is conclusive."""

import math
from dataclasses import dataclass, replace

import pandas as pd

from harness.conditions import ATTACK
from harness.metrics import audit_bound
from harness.records import Verdict
from harness.reports.decision.measured import Condition, Subject, of_subject
from harness.reports.load import Results
from harness.reports.tables.attack_check import attack_check, strongest_attack
from harness.suites.requirements import WORST_CASE, RequirementEntry

UNKNOWN = "the tables do not say whether an attack is conclusive; run the suite again"
WEAK = "no strong attack ran at this budget, so a stronger one may leave less"
OTHER_FILE = "the attacked images were made against the float network, not against this file"


@dataclass(frozen=True)
class Strength:
    """What an attack, or another measurement, leaves open beside the sampling of examples."""

    invalid: str = ""
    """Why the number is none; empty where it is one."""
    weak: str = ""
    """Why the true value may be any worse one; empty where it may not."""
    lost: float = 0.0
    """Examples that AutoAttack standard may still succeed on, by the audit."""


def strength_of(results: Results, entry: RequirementEntry, subject: Subject, condition: Condition) -> Strength:
    """Returns what the attack check, the audit and the demand for a strong attack leave open.

    The audit's bound on the examples lost has the requirement's own confidence, see `harness.metrics.audit_bound`.
    """
    if entry.attack == WORST_CASE:
        verdict, why = _check_of_worst_case(results, subject, condition, eps=float(entry.eps or 0))
    else:
        verdict, why = _check_of(condition.rows)
    found = Strength(lost=_lost(entry, condition))
    if verdict == Verdict.INVALID:
        return replace(found, invalid=f"the attack check is INVALID: {why}")
    if verdict == Verdict.SUSPECT:
        return replace(found, weak=f"the attack check is SUSPECT: {why}")
    return replace(found, weak=_lack_of_strength(entry, condition))


def _check_of_worst_case(results: Results, subject: Subject, condition: Condition, *, eps: float) -> tuple[str | None, str]:
    """Returns the check of the leaderboard at this budget: the strongest attack's, and what it does not supersede."""
    cells = of_subject(results.cells, subject)
    at = next((value for value in condition.rows["eps"] if math.isclose(value, eps, rel_tol=1e-6)), eps)
    strongest = strongest_attack(cells, norm=condition.norm, eps=at)
    verdict, reasons = attack_check(cells, strongest, norm=condition.norm, eps=at)
    return verdict, "; ".join(reasons)


def _check_of(rows: pd.DataFrame) -> tuple[str | None, str]:
    """Returns the worst check of some rows, with its reasons."""
    for verdict in (Verdict.INVALID, Verdict.SUSPECT):
        found = rows[rows["verdict"] == verdict]
        if len(found):
            return verdict, "; ".join(str(reason) for reason in found["verdict_reasons"].dropna().unique())
    return None, ""


def _lost(entry: RequirementEntry, condition: Condition) -> float:
    """Returns how many examples the standard may still take at the budget; of several audited attacks the fewest."""
    audited = _at_budget(entry, condition)
    audited = audited[audited["audit_n"].notna() & audited["robust_accuracy"].notna()]
    bounds = [
        audit_bound(int(row["audit_n"]), round(row["robust_accuracy"] * row["n_examples"]), confidence=entry.confidence)
        for row in audited.to_dict("records")
    ]
    return min(bounds, default=0.0)


def _at_budget(entry: RequirementEntry, condition: Condition) -> pd.DataFrame:
    rows = condition.rows[condition.rows["condition"] == ATTACK]
    return rows[(rows["eps"].astype(float) - float(entry.eps or 0)).abs() < 1e-9]


def _lack_of_strength(entry: RequirementEntry, condition: Condition) -> str:
    """Returns why the attack is no strong one, where the requirement asks for one."""
    if entry.strong is None:
        return ""
    if entry.precision not in (None, "float32"):
        return OTHER_FILE
    rows = _at_budget(entry, condition)
    sound = rows[rows["verdict"].ne(Verdict.INVALID) & ~rows["targeted"].fillna(value=False).astype(bool)]
    if sound["conclusive"].fillna(value=False).any():
        return ""
    return UNKNOWN if len(sound) and sound["conclusive"].isna().all() else WEAK
