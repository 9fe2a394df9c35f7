"""The section of the page that compares the run with another one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.reports.comparison.numbers import Outcome
from harness.reports.comparison.tables import TextTable, comparison_tables
from harness.reports.page.tables import PageEntry, PageTable

if TYPE_CHECKING:
    from harness.reports.compare import Comparison

BADGES = {str(Outcome.LOSS): "invalid", str(Outcome.GAIN): "pass"}
"""How an outcome is shown."""


@dataclass(frozen=True)
class ComparisonSection:
    """The section: its first sentence, the folder of the earlier run, and the tables."""

    sentence: str
    against: str
    tables: tuple[PageTable, ...]


def comparison_section(comparison: "Comparison | None") -> ComparisonSection | None:
    """Returns the section; None where the page compares with nothing.

    Args:
        comparison: From the other run (A) to the one of the page (B).
    """
    if comparison is None:
        return None
    tables = tuple(_page_table(table) for table in comparison_tables(comparison))
    return ComparisonSection(comparison.sentence, comparison.a, tables)


def _page_table(table: TextTable) -> PageTable:
    rows = tuple(tuple(PageEntry(text, badge=BADGES.get(text, "")) for text in row) for row in table.rows)
    return PageTable(table.title, table.columns, rows, table.numeric)
