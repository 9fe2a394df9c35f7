"""Run by `make columns`: prints docs/columns.md, the columns that the code writes with what `harness.reports.columns` says.

python -m tests.columns > docs/columns.md
"""

import sys
from collections.abc import Iterator, Sequence

from harness.deployment.table import COLUMNS as RUNTIME_COLUMNS
from harness.records import CELL_COLUMNS
from harness.reports.columns import TABLES, meaning
from harness.reports.decision.requirements import COLUMNS as REQUIREMENT_COLUMNS
from harness.reports.names import MODEL_COLUMNS
from harness.reports.page.examples import COLUMNS as EXAMPLE_COLUMNS
from harness.reports.tables.best_known import BEST_KNOWN_COLUMNS, IMAGE_COLUMNS
from harness.reports.tables.leaderboard import LEADERBOARD_COLUMNS
from harness.reports.tables.poisons import DETECTOR_COLUMNS, POISON_COLUMNS, ROC_COLUMNS
from harness.reports.tables.stages import STAGE_COLUMNS
from harness.reports.tables.sweep import SWEEP_COLUMNS
from harness.reports.tables.training import TRAINING_COLUMNS
from harness.reports.tables.transfer import TRANSFER_COLUMNS
from harness.reports.tables.write import (
    BEFORE_AFTER_COLUMNS,
    CURVE_COLUMNS,
    EXPECTATION_COLUMNS,
    PER_CLASS_COLUMNS,
    SAMPLE_COLUMNS,
)
from harness.training.history import COLUMNS, REDUCED, ROBUST_COLUMNS

WRITTEN: dict[str, Sequence[str]] = {
    "cells.csv": CELL_COLUMNS,
    "samples.parquet": SAMPLE_COLUMNS,
    "sweep.csv": SWEEP_COLUMNS,
    "leaderboard.csv": LEADERBOARD_COLUMNS,
    "per_class.csv": PER_CLASS_COLUMNS,
    "before_after.csv": BEFORE_AFTER_COLUMNS,
    "best_known.csv": BEST_KNOWN_COLUMNS,
    "best_known_images.csv": IMAGE_COLUMNS,
    "stages.csv": STAGE_COLUMNS,
    "transfer.csv": TRANSFER_COLUMNS,
    "history.csv": (*MODEL_COLUMNS, *COLUMNS, *ROBUST_COLUMNS, REDUCED),
    "training.csv": TRAINING_COLUMNS,
    "poisons.csv": POISON_COLUMNS,
    "detectors.csv": DETECTOR_COLUMNS,
    "detectors_roc.csv": ROC_COLUMNS,
    "crossruntime.csv": RUNTIME_COLUMNS,
    "requirements.csv": REQUIREMENT_COLUMNS,
    "expectations.csv": EXPECTATION_COLUMNS,
    "confusion/<cell>.csv": ("true_class",),
    "roc/<cell>.csv": CURVE_COLUMNS,
    "examples/sheet.csv": EXAMPLE_COLUMNS,
}
"""File -> the columns that the code writes."""
HEAD = """\
# Columns

What each column of each table in `results/<suite>/` means. This page is made from the code by `make columns`.

Rates are in [0,1], budgets in pixel units of [0,1], times in seconds. An empty entry is a missing number, never zero. By
`pandas.read_csv(file, dtype_backend="numpy_nullable")` whole numbers and truth values stay such where some are missing. Without
it whole numbers become floats, and truth values objects: True, False and NaN.

The columns of the model are the same in every table but `expectations.csv` and `crossruntime.csv`, so that tables can be joined
by them; `crossruntime.csv` is joined by `digest`. For a join give `dtype={"poison": str}`, as pandas takes an empty column for
numbers.
"""


def page() -> str:
    """Returns the page."""
    return (
        "\n".join(
            [HEAD, *_section("The model", "In every table that is about models.", "cells.csv", MODEL_COLUMNS), *_tables()]
        ).rstrip()
        + "\n"
    )


def _tables() -> Iterator[str]:
    for table, what in TABLES.items():
        own = [name for name in WRITTEN[table] if name not in MODEL_COLUMNS]
        joined = set(MODEL_COLUMNS) <= set(WRITTEN[table])
        yield from _section(f"`{table}`", f"{what} It has the columns of the model." if joined else what, table, own)


def _section(title: str, what: str, table: str, columns: Sequence[str]) -> Iterator[str]:
    yield from (f"## {title}", "", what, "", "| column | what it means |", "|---|---|")
    yield from (f"| `{name}` | {meaning(table, name) or MISSING} |".replace("<", "&lt;") for name in columns)
    yield ""


MISSING = "?"
"""Stands where nothing says what a column means; a test refuses it."""

if __name__ == "__main__":
    sys.stdout.write(page())
