"""The table stages.csv: what each stage of an ensemble achieved and cost."""

from collections.abc import Iterable

import pandas as pd

from harness.records import CellResult
from harness.reports.names import MODEL_COLUMNS, cell_fields, with_column_types
from harness.reports.tables.scores import ScoredCell

COSTS = ("attacked", "adversarial", "forwards", "backwards", "seconds")
STAGE_COLUMNS = (*MODEL_COLUMNS, "attack", "norm", "eps", "stage", *COSTS, "digest")
"""Columns of stages.csv, in order: those of a cell of cells.csv, and what the stage made of it (`StageEvidence`). The stages
of an audit are among them."""


def stages_table(found: Iterable[tuple[CellResult, ScoredCell | None]]) -> pd.DataFrame:
    """Returns one row for each attack, budget and stage, in the order in which the stages ran; none where no ensemble ran."""
    rows = [
        {
            **cell_fields(result.cell),
            "digest": result.digest,
            "stage": name,
            **{column: getattr(stage, column) for column in COSTS},
        }
        for result, cell in found
        if cell is not None
        for name, stage in cell.condition.evidence.stages.items()
    ]
    return with_column_types(pd.DataFrame(rows, columns=list(STAGE_COLUMNS)))
