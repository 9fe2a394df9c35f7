"""Every model's predictions on the adversarial images of the others: rows of transfer.csv, and evidence for the sanity checks."""

from collections.abc import Sequence
from fractions import Fraction

from harness.conditions import ATTACK, CLEAN
from harness.evaluation.sanity import Transferred
from harness.records import CellResult, TransferRow
from harness.reports.tables.transfer import transfer_row
from harness.running.finished import FinishedRun


def transfers_of(run: FinishedRun, results: Sequence[CellResult]) -> tuple[tuple[TransferRow, ...], tuple[Transferred, ...]]:
    """Returns one row for each source and target of the finished transfers, and which examples each source makes adversarial.

    Args:
        run: The run.
        results: All cells of the run.
    """
    rows: list[TransferRow] = []
    evidence: list[Transferred] = []
    for transfer in run.plan.transfers:
        for target, wrong in transfer.step.wrong(run.context).items() if run.finished(transfer.step) else ():
            clean = _cell_of(target, "none", None, results)
            if clean is None or clean.clean_logits is None or clean.labels is None:
                continue
            correct = clean.clean_logits.argmax(axis=1) == clean.labels
            rows.append(
                transfer_row(transfer.source, target, transfer.attack, transfer.threat_model, correct=correct, wrong=wrong)
            )
            own = _cell_of(target, transfer.attack, transfer.threat_model.eps, results)
            if own is not None and target != transfer.source:
                evidence.append(Transferred(own.cell, transfer.source, correct & wrong))
    return tuple(rows), tuple(evidence)


def _cell_of(model: str, attack: str, eps: Fraction | None, results: Sequence[CellResult]) -> CellResult | None:
    """Returns the cell of a model trained on clean data: its clean one, or that of an attack at a budget."""
    wanted = (CLEAN if eps is None else ATTACK, model, None, attack, eps)
    cells = ((it, it.cell) for it in results)
    return next((it for it, cell in cells if (cell.condition, cell.model, cell.poison, cell.attack, cell.eps) == wanted), None)
