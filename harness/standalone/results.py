"""The results folder of `harness.evaluate`."""

from pathlib import Path

import pandas as pd

from harness.errors import HarnessError
from harness.records import RunRecord
from harness.reports.files import check_writable
from harness.reports.load import check_own_results, load_results
from harness.reports.page.html import write_report
from harness.reports.tables.write import cells_table, write_tables

EVALUATE = "evaluate"
"""What results folders have in place of a suite's name."""


def checked_folder(out: Path | str | None) -> Path | None:
    """Returns the folder to write to, if any.

    Raises:
        HarnessError: if it is none, cannot be written, or holds the results of a suite.
    """
    if out is None:
        return None
    if not isinstance(out, str | Path):
        raise HarnessError(f"out: expected the path of a folder, got {type(out).__name__}")
    folder = Path(out)
    check_own_results(folder, EVALUATE)
    check_writable(folder)
    return folder


def written(record: RunRecord, folder: Path | None) -> pd.DataFrame:
    """Returns the table cells.csv of an evaluation; writes all tables, curves and the report where there is a folder.

    Raises:
        HarnessError: if it cannot be written.
    """
    if folder is not None:
        write_tables(record, folder)
        write_report(load_results(folder))
    return cells_table(record)
