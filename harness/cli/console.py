"""Output of the command line: progress with ETA, tables; plain lines where the output is no terminal."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from harness.system.messages import printable
from harness.system.progress import Advance

PLAIN_INTERVAL = 10.0
"""Seconds between two lines of one task where the output is no terminal."""

AT_ONCE = 0.5
"""Seconds; work reported earlier was done before, as by a training that is resumed, and the ETA leaves it out."""

stdout = Console(soft_wrap=True, highlight=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False)


class RichProgress:
    """Draws one bar a task on the terminal: work done, elapsed time, ETA and the latest note."""

    def __init__(self) -> None:
        """Prepares the bars; they are drawn while a task is open."""
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=stderr,
        )
        self._open = 0

    @contextmanager
    def task(self, title: str, total: float) -> Iterator[Advance]:
        """See `harness.system.progress.Progress`."""
        if self._open == 0:
            self._bars.start()
        self._open += 1
        task = self._bars.add_task(title, total=total, note="")
        try:
            yield lambda amount, note: self._bars.update(task, advance=amount, note=note)
        finally:
            self._open -= 1
            self._bars.stop_task(task)
            if self._open == 0:
                self._bars.stop()
                for finished in list(self._bars.task_ids):
                    self._bars.remove_task(finished)


class PlainProgress:
    """Prints a line when a task begins and ends, and every few seconds between, with an ETA."""

    @contextmanager
    def task(self, title: str, total: float) -> Iterator[Advance]:
        """See `harness.system.progress.Progress`."""
        started = shown = time.monotonic()
        done = found = 0.0

        def advance(amount: float, note: str) -> None:
            nonlocal done, found, shown
            done += amount
            now = time.monotonic()
            if now - started < AT_ONCE:
                found = done
            if now - shown >= PLAIN_INTERVAL and done > found:
                shown = now
                left = (now - started) / (done - found) * max(total - done, 0)
                stderr.print(f"{title}: {done:g}/{total:g}, {now - started:.0f} s, eta {left:.0f} s  {note}".rstrip())

        yield advance
        stderr.print(f"{title}: done in {time.monotonic() - started:.1f} s")


def progress_display() -> RichProgress | PlainProgress:
    """Returns bars where standard error is a terminal, else plain lines."""
    return RichProgress() if stderr.is_terminal else PlainProgress()


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table: drawn on a terminal, else tab-separated lines that other programs can read."""
    if not stdout.is_terminal:
        sys.stdout.writelines("\t".join(printable(str(value)) for value in row) + "\n" for row in [columns, *rows])
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(str(value))) for value in row))
    stdout.print(table)


def log_to_console(*, verbose: bool) -> None:
    """Sends the library's log to standard error; one line a message where that is no terminal."""
    handler: logging.Handler = logging.StreamHandler()
    layout = "%(levelname)s: %(message)s"
    if stderr.is_terminal:
        handler = RichHandler(console=stderr, show_path=False, show_time=False, rich_tracebacks=False, markup=False)
        layout = "%(message)s"
    logging.basicConfig(level=logging.WARNING, handlers=[handler], format=layout, force=True)
    logging.getLogger("harness").setLevel(logging.DEBUG if verbose else logging.INFO)
