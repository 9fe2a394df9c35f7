"""What the adversarials of every model do to the others: rows of transfer.csv, and evidence for the sanity checks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.sanity import Transferred
from harness.metrics import attack_success_rate
from harness.plan import Plan, PlannedTransfer
from harness.records import CellResult, TransferRow
from harness.steps.base import Context


def transfers_of(
    plan: Plan, context: Context, results: Sequence[CellResult]
) -> tuple[tuple[TransferRow, ...], tuple[Transferred, ...]]:
    """Returns one row for each source and target of the finished transfers, and who was fooled by whose images.

    Args:
        plan: The plan.
        context: Where its steps are stored.
        results: All cells of the run.
    """
    rows: list[TransferRow] = []
    evidence: list[Transferred] = []
    for transfer in plan.transfers:
        if context.entry(transfer.step) is not None:
            for target, wrong in transfer.step.wrong(context).items():
                cell = _cell_of(target, transfer, results)
                if cell is not None and cell.clean_logits is not None and cell.labels is not None:
                    correct = cell.clean_logits.argmax(axis=1) == cell.labels
                    rows.append(_row(transfer, target, correct, wrong))
                    if target != transfer.source:
                        evidence.append(Transferred(cell.cell, transfer.source, correct & wrong))
    return tuple(rows), tuple(evidence)


def _cell_of(target: str, transfer: PlannedTransfer, results: Sequence[CellResult]) -> CellResult | None:
    """Returns the target's own cell under the same attack at the same budget, trained on clean data."""
    wanted = (target, None, transfer.attack, transfer.threat_model.eps)
    return next((it for it in results if (it.cell.model, it.cell.poison, it.cell.attack, it.cell.eps) == wanted), None)


def _row(transfer: PlannedTransfer, target: str, correct: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> TransferRow:
    return TransferRow(
        source=transfer.source,
        target=target,
        attack=transfer.attack,
        norm=transfer.threat_model.norm.value,
        eps=float(transfer.threat_model.eps),
        accuracy=float(1 - wrong.mean()),
        attack_success_rate=attack_success_rate(correct, correct & wrong),
    )
