"""What a run prints at its end: the leaderboard, expectations, trouble, and where the report lies."""

from typing import TYPE_CHECKING

import typer

from harness.cli import console
from harness.cli.exit_codes import CHECK_FAILED, INTERRUPTED, STOPPED

if TYPE_CHECKING:
    from harness.running.runner import RunSummary

NOTHING_FINISHED = "nothing finished, so the earlier results in {} stay as they are"


def show_run(summary: "RunSummary") -> None:
    """Prints the tables of a run.

    Raises:
        typer.Exit: if it was stopped, or a step failed or an expectation does not hold.
    """
    from harness.reports.load import load_results
    from harness.reports.summary import expectations_table, leaderboard_table, requirements_table, trouble_table

    if summary.written:
        results = load_results(summary.folder)
        for make in (leaderboard_table, expectations_table, requirements_table, trouble_table):
            if (table := make(results)).rows:
                console.show_table(*table)
    for failure in summary.failures:
        console.stderr.print(failure, markup=False)
    console.stdout.print(f"{summary.seconds:.1f} s; {_written(summary)}")
    if summary.interrupted:
        console.stderr.print(STOPPED)
        raise typer.Exit(INTERRUPTED)
    if not summary.ok:
        raise typer.Exit(CHECK_FAILED)


def _written(summary: "RunSummary") -> str:
    if not summary.written:
        return NOTHING_FINISHED.format(summary.folder)
    if summary.interrupted:
        return f"tables: {summary.folder}; `harness report` draws the page from them"
    return f"report: {summary.folder / 'report.html'}"
