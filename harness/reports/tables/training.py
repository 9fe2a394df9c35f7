"""The tables of trainings: history.csv and training.csv."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.records import RunRecord
from harness.reports.names import MODEL_COLUMNS, cell_fields, model_label, with_column_types

TRAINING_COLUMNS = (
    *(*MODEL_COLUMNS, "best_epoch", "epochs", "stopped_early", "chosen_by", "validation_accuracy", "validation_robust_accuracy"),
    *("robust_overfitting", "collapsed", "catastrophic_overfitting", "seconds", "attack_share", "warnings"),
)
"""Columns of training.csv, see `harness.training.history.summarise`."""


def models_by_label(record: RunRecord) -> dict[str, dict[str, Any]]:
    """Returns, for each model of a run by its name in tables and pages, the columns that identify it in every table."""
    fields = (cell_fields(result.cell) for result in record.cells)
    return {model_label(it): {name: it[name] for name in MODEL_COLUMNS} for it in fields}


def history_table(record: RunRecord) -> pd.DataFrame:
    """Returns one row for each model and epoch, with every column that any model recorded."""
    known = models_by_label(record)
    rows = [{**_identity(known, label), **epoch} for label, epochs in record.histories.items() for epoch in epochs]
    return with_column_types(pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*MODEL_COLUMNS, "epoch"]))


def training_table(record: RunRecord) -> pd.DataFrame:
    """Returns one row a model: the epoch kept and how it was chosen, overfitting and collapse, warnings in words."""
    known = models_by_label(record)
    rows = [
        {**_identity(known, label), **found, "warnings": "; ".join(found["warnings"])}
        for label, found in record.trainings.items()
    ]
    return with_column_types(pd.DataFrame(rows))


def _identity(known: Mapping[str, Mapping[str, Any]], label: str) -> dict[str, Any]:
    """Returns the columns that identify a model; of one without a row in cells.csv the name alone."""
    return {**dict.fromkeys(MODEL_COLUMNS), **known.get(label, {"model": label})}
