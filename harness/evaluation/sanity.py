"""The verdict on every number: PASS, SUSPECT or INVALID, with the reasons.

A row's verdict is the worst of its reasons. "Upper bound" is a reason that leaves the verdict as it is: FGSM or PGD
alone bound robust accuracy from above, which is no fault of the measurement.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.conditions import CLEAN
from harness.evaluation.checks.audit import AUDIT
from harness.evaluation.checks.base import REPEATED_ATTACKS, Reason, Row, beats, suspect
from harness.evaluation.checks.ensemble import ENSEMBLE
from harness.evaluation.checks.gradients import GRADIENTS
from harness.evaluation.checks.model import MODEL, NETWORK
from harness.evaluation.checks.neighbours import SAME_BUDGET, SMALLER_BUDGETS
from harness.evaluation.checks.single import SINGLE
from harness.evaluation.checks.skipped import SKIPPED
from harness.records import Cell, CellResult, Status, Verdict

SEVERITY = (Verdict.PASS, Verdict.SUSPECT, Verdict.INVALID)


@dataclass(frozen=True, eq=False)
class Transferred:
    """Adversarials of a source model, judged by a target model: (N,) which of them are adversarial for it."""

    cell: Cell
    """The target's own cell under the same attack and budget."""
    source: str
    """Label of the model that the adversarials were made on."""
    is_adversarial: NDArray[np.bool_]
    """(N,) correct on the target when clean, and wrong on the source's adversarial."""


def judge(results: Sequence[CellResult], *, transfers: Sequence[Transferred] = ()) -> tuple[CellResult, ...]:
    """Returns the results with `verdict` and `verdict_reasons` filled in, in the same order.

    An attack that had no example to attack loses its numbers: they would be those of the clean images.

    Args:
        results: All rows of a run; a row is compared with the others of its model.
        transfers: What adversarials of other models do.
    """
    results = [_without_idle_attack(result) for result in results]
    rows = [Row.of(result) for result in results]
    known, of_model = RowsOfRun(row for row in rows if row is not None), defaultdict[str, list[Transferred]](list)
    for transfer in transfers:
        of_model[transfer.cell.model].append(transfer)
    return tuple(
        result
        if row is None
        else _with_verdict(result, [*reasons_of(row, known), *_transfer_wins(row, of_model[result.cell.model])])
        for result, row in zip(results, rows, strict=True)
    )


class RowsOfRun:
    """The finished rows of a run, by what the checks compare a row with: a large grid has as many pairs as its square.

    Args:
        rows: All of them.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        """See the class."""
        self._clean: dict[tuple[object, ...], Row] = {}
        self._at_budget, self._of_attack = (defaultdict[tuple[object, ...], list[Row]](list) for _ in range(2))
        for row in rows:
            if row.result.cell.condition == CLEAN:
                self._clean.setdefault(row.model_key, row)
            if row.is_attack:
                self._at_budget[row.budget_key].append(row)
                self._of_attack[row.attack_key].append(row)

    def clean(self, row: Row) -> Row | None:
        """Returns the row of the same model on clean images, if there is one."""
        return self._clean.get(row.model_key)

    def rivals(self, row: Row) -> list[Row]:
        """Returns the rows of the other attacks on the same model at the same budget."""
        return [other for other in self._at_budget[row.budget_key] if other is not row]

    def smaller(self, row: Row) -> list[Row]:
        """Returns the rows of the same attack on the same model at smaller budgets."""
        eps = row.result.cell.eps
        budgets = [(other.result.cell.eps, other) for other in self._of_attack[row.attack_key]]
        return [other for budget, other in budgets if eps is not None and budget is not None and budget < eps]


def _without_idle_attack(result: CellResult) -> CellResult:
    row = Row.of(result)
    if row is None or not row.is_attack or row.eligible.any():
        return result
    kind = "examples of another class than its target" if row.result.cell.targeted else "examples"
    reason = f"nothing to attack: none of the {len(row.labels)} {kind} is classified correctly"
    return replace(
        result, status=Status.SKIPPED, reason=reason, labels=None, clean_logits=None, condition=None, smallest_eps=None
    )


def reasons_of(row: Row, rows: RowsOfRun) -> list[Reason]:
    """Returns all that the checks have against one row, given all rows of the run."""
    found = [check(row) for check in (*SINGLE, *AUDIT, *SKIPPED)]
    clean = rows.clean(row)
    found += [check(row, clean) for check in NETWORK if clean is not None]
    if row.is_attack:
        rivals, smaller = rows.rivals(row), rows.smaller(row)
        found += [check(row, clean) for check in (*MODEL, *GRADIENTS) if clean is not None]
        found += [check(row, rivals) for check in SAME_BUDGET]
        found += [check(row, smaller) for check in (*SMALLER_BUDGETS, *ENSEMBLE)]
    return [reason for reason in found if reason is not None]


def _transfer_wins(row: Row, transfers: Sequence[Transferred]) -> list[Reason]:
    """Adversarials of another model should not do better than an attack on this one.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3.1; Papernot et al. 2017.
    """
    if row.access not in REPEATED_ATTACKS:
        return []
    leads = [
        (beats(other.is_adversarial, row.condition.is_adversarial), other.source)
        for other in transfers
        if other.cell == row.result.cell
    ]
    return [suspect(f"adversarials of {source} break {lead} examples more") for lead, source in leads if lead]


def _with_verdict(result: CellResult, reasons: Sequence[Reason]) -> CellResult:
    worst = max((reason.verdict for reason in reasons), key=SEVERITY.index, default=Verdict.PASS)
    return replace(result, verdict=worst, verdict_reasons=tuple(reason.text for reason in reasons))
