"""The verbs that look at several finished runs: one leaderboard of all, and two runs compared.

They import what they need when they run, as all verbs do.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import console
from harness.cli.exit_codes import CHECK_FAILED
from harness.errors import HarnessError
from harness.system.messages import printable, shown

if TYPE_CHECKING:
    from pandas import DataFrame


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
    from harness.reports.tables.ranking import board_notes
    from harness.reports.tables.write import write_csv

    others: dict[str, Callable[[DataFrame, list[str]], str]] = {
        ".html": partial(board_page, file=out.name),
        ".md": board_markdown,
    }
    wanted = {ending: others[ending] for ending, asked in ((".html", html), (".md", markdown)) if asked}
    if out.suffix in wanted:
        raise HarnessError(f"--out: expected another ending than {out.suffix}, which is written beside it, got {out}")
    board = merge(results)
    notes = board_notes(board)
    write_csv(board, out)
    console.stdout.print(printable(str(out)), markup=False)
    for ending, text_of in wanted.items():
        write_text(path := out.with_suffix(ending), text_of(board, notes))
        console.stdout.print(printable(str(path)), markup=False)
    for sentence in notes:
        console.stdout.print(printable(sentence), markup=False)


def compare(
    first: Annotated[Path, typer.Argument(metavar="RESULTS_A", help="Folder of results.")],
    second: Annotated[Path, typer.Argument(metavar="RESULTS_B", help="Folder of the results that are to be no worse.")],
    models: Annotated[
        list[str] | None, typer.Option("--models", metavar="OLD=NEW", help="A model's label in A and in B; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, with every class and image.")] = False,
) -> None:
    """Compare two runs on the same examples; exit 1 where B is significantly worse than A, 2 where they share nothing.

    Examples are joined by content. Each condition has an exact McNemar test, with Holm's correction over all of them.
    """
    from harness.reports.compare import compare as compare_results
    from harness.reports.compare import comparison_json
    from harness.reports.comparison.tables import comparison_tables

    found = compare_results(first, second, models=_renamed(models or ()))
    if as_json:
        console.stdout.print_json(data=comparison_json(found))
    else:
        for table in comparison_tables(found):
            console.stdout.print(table.title, markup=False)
            console.show_table("", table.columns, table.rows)
        console.stdout.print(printable(found.sentence), markup=False)
    if found.losses:
        raise typer.Exit(CHECK_FAILED)


def _renamed(pairs: Sequence[str]) -> dict[str, str]:
    """Returns old label -> new label.

    Raises:
        HarnessError: if one is not of the form old=new, or a label is named twice.
    """
    renamed: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new) or old in renamed or new in renamed.values():
            raise HarnessError(f"--models: expected old=new, each label once, got {shown(pair)}")
        renamed[old] = new
    return renamed
