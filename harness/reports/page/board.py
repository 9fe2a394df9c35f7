"""A leaderboard over several runs as a page and as Markdown."""

from collections.abc import Sequence

import pandas as pd

from harness.reports.markdown import escaped, markdown_table
from harness.reports.page.environment import environment
from harness.reports.page.tables import PageEntry, board_table

TITLE = "Leaderboard"


def board_page(board: pd.DataFrame, notes: Sequence[str], *, file: str) -> str:
    """Returns a self-contained page with a leaderboard.

    Args:
        board: The table leaderboard.csv.
        notes: Sentences: what is kept apart and why, see `harness.reports.tables.ranking.board_notes`.
        file: The CSV file beside the page.
    """
    return (
        environment()
        .get_template("board.html.j2")
        .render(title=TITLE, leaderboard=board_table(board, file=file), board_notes=notes)
    )


def board_markdown(board: pd.DataFrame, notes: Sequence[str]) -> str:
    """Returns the same in Markdown."""
    table = board_table(board)
    rows = [[_text(entry) for entry in row] for row in table.rows]
    lines = [f"# {TITLE}", "", markdown_table(table.columns, rows), "", *(f"- {escaped(sentence)}" for sentence in notes)]
    return "\n".join(lines).rstrip() + "\n"


def _text(entry: PageEntry) -> str:
    detail = f" ({entry.detail})" if entry.detail else ""
    return " ".join(part for part in (entry.text, entry.mark) if part) + detail
