"""The table transfer.csv: the accuracy of every model on the adversarial images of the others."""

from typing import Any

import pandas as pd

from harness.metrics import wilson_interval
from harness.records import RunRecord, TransferRow
from harness.reports.names import MODEL_COLUMNS, with_column_types
from harness.reports.tables.training import models_by_label

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
