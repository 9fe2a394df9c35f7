"""Results folders of planted runs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.records import CellResult, RunRecord
from harness.reports.load import Results, load_results
from harness.reports.page.html import write_report
from harness.reports.tables.write import write_tables
from tests.reports.planted import grid, record_of

Write = Callable[..., Results]


@pytest.fixture(scope="session")
def record() -> RunRecord:
    return record_of(grid())


@pytest.fixture(scope="session")
def results(record: RunRecord, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The tables of the planted run, read back; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("tables") / "synthetic"
    write_tables(record, folder)
    return load_results(folder)


@pytest.fixture(scope="session")
def published(record: RunRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every table, figure and page of the planted run; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("published") / "synthetic"
    write_tables(record, folder)
    write_report(load_results(folder))
    return folder


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Writes the tables of some cells into a folder of the test's own, and reads them back."""

    def write(cells: Sequence[CellResult], name: str = "run", **fields: object) -> Results:
        write_tables(record_of(cells, **fields), tmp_path / name)
        return load_results(tmp_path / name)

    return write
