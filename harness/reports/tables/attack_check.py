"""The attack check of a model's headline number."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from harness.conditions import CLEAN
from harness.records import Verdict
from harness.reports.names import condition_label, is_missing
from harness.reports.tables.corruptions import LOST

SEVERITY = {Verdict.PASS: 1, Verdict.SUSPECT: 2, Verdict.INVALID: 3}


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
