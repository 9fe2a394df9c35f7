"""The table transfer.csv: the accuracy of every model on the adversarial images of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.metrics import Flags, attack_success_rate, wilson_interval
from harness.records import RunRecord, TransferRow
from harness.reports.names import MODEL_COLUMNS, with_column_types
from harness.reports.tables.training import models_by_label

if TYPE_CHECKING:
    from harness.threat import ThreatModel

TRANSFER_COLUMNS = (
    *MODEL_COLUMNS,
    *("source", "target", "attack", "norm", "eps", "n_examples", "accuracy", "accuracy_low", "accuracy_high"),
    *("eligible", "attack_success_rate", "attack_success_rate_low", "attack_success_rate_high"),
)
"""Columns of transfer.csv, in order; the model of a row is the target, which is scored."""


def transfer_table(record: RunRecord) -> pd.DataFrame:
    """Returns one row for each source, target, attack and budget, with numbers of examples and Wilson intervals."""
    known = models_by_label(record)
    rows = [{**known.get(row.target, {"model": row.target}), **vars(row), **_intervals(row)} for row in record.transfers]
    return with_column_types(pd.DataFrame(rows, columns=list(TRANSFER_COLUMNS)))


def _intervals(row: TransferRow) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, n in (("accuracy", row.n_examples), ("attack_success_rate", row.eligible)):
        low, high = wilson_interval(round(getattr(row, name) * n), n) if n else (None, None)
        found |= {f"{name}_low": low, f"{name}_high": high}
    return found


def transfer_row(
    source: str, target: str, attack: str, threat_model: ThreatModel, *, correct: Flags, wrong: Flags
) -> TransferRow:
    """Returns a row of transfer.csv.

    Args:
        source: Label of the model that the images were made on.
        target: Label of the model that is scored on them.
        attack: The attack's label.
        threat_model: Its norm and budget.
        correct: (N,) whether the target classifies the clean example correctly.
        wrong: (N,) whether it misclassifies the image that was made of it.
    """
    return TransferRow(
        source=source,
        target=target,
        attack=attack,
        norm=threat_model.norm.value,
        eps=float(threat_model.eps),
        accuracy=float(1 - wrong.mean()),
        attack_success_rate=attack_success_rate(correct, correct & wrong),
        n_examples=len(wrong),
        eligible=int(correct.sum()),
    )
