"""The verbs that look at several finished runs: one leaderboard of all, and two runs compared.

They import what they need when they run, as all verbs do.
"""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console
from harness.cli.exit_codes import CHECK_FAILED
from harness.errors import HarnessError
from harness.system.messages import printable


def leaderboard(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Folders of results.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The CSV file to write.")],
    html: Annotated[bool, typer.Option("--html", help="Write a page beside it, FILE with the ending .html.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write Markdown beside it, FILE with the ending .md.")] = False,
) -> None:
    """Merge the leaderboards of several runs into one CSV file, and say what is kept apart and why.

    Models are ranked against each other only where examples, norm, budget, attacks with their settings, protocol and
    schema agree. A model that is in two of the runs is an error.
    """
    from harness.reports.files import write_text
    from harness.reports.page.board import board_markdown, board_page
    from harness.reports.tables.leaderboard import merge
    from harness.reports.tables.ranking import kept_apart
    from harness.reports.tables.write import write_csv

    others = {".html": board_page, ".md": board_markdown}
    wanted = {ending: others[ending] for ending, asked in ((".html", html), (".md", markdown)) if asked}
    if out.suffix in wanted:
        raise HarnessError(f"--out: expected another ending than {out.suffix}, which is written beside it, got {out}")
    board = merge(results)
    apart = kept_apart(board)
    write_csv(board, out)
    console.stdout.print(printable(str(out)), markup=False)
    for ending, text_of in wanted.items():
        write_text(path := out.with_suffix(ending), text_of(board, apart))
        console.stdout.print(printable(str(path)), markup=False)
    for sentence in apart:
        console.stdout.print(printable(sentence), markup=False)


def compare(
    first: Annotated[Path, typer.Argument(metavar="RESULTS_A")],
    second: Annotated[Path, typer.Argument(metavar="RESULTS_B")],
) -> None:
    """Compare the cells of two runs; exit 1 where intervals do not overlap."""
    from harness.reports.compare import compare as compare_results

    table = compare_results(first, second)
    console.show_table("", list(table.columns), table.itertuples(index=False))
    if (table["overlap"] == False).any():  # noqa: E712 - a missing number is no disagreement
        raise typer.Exit(CHECK_FAILED)
