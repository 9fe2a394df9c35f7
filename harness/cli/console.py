"""Output of the command line: progress with ETA, tables; plain lines where the output is no terminal."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Lock, Thread

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from harness.system.messages import printable
from harness.system.progress import Advance

PLAIN_INTERVAL = 8.0
"""Seconds after which a line of a task is due where the output is no terminal; with a pass of the network on top, ten at most."""

AT_ONCE = 0.5
"""Seconds; work reported earlier was done before, as by a training that is resumed, and the ETA leaves it out."""

MOST_DRAWN = 5_000
"""Rows of a table that is drawn; the widths of its columns are known, and the first row is printed, when all rows were seen."""

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
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=stderr,
        )
        self._open = 0

    @contextmanager
    def task(self, title: str, total: float, unit: str = "") -> Iterator[Advance]:
        """See `harness.system.progress.Progress`."""
        if self._open == 0:
            self._bars.start()
        self._open += 1
        task = self._bars.add_task(title, total=total, unit=unit, note="")
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
    """Prints a line when a task ends, and every few seconds before, with an ETA."""

    @contextmanager
    def task(self, title: str, total: float, unit: str = "") -> Iterator[Advance]:
        """See `harness.system.progress.Progress`."""
        lines, over = _Lines(title, total, unit), Event()
        ticking = Thread(target=lines.tick, args=(over,), daemon=True, name="progress")
        ticking.start()
        try:
            yield lines.advance
        finally:
            over.set()
            ticking.join()
        stderr.print(f"{title}: done in {time.monotonic() - lines.started:.1f} s", markup=False)


class _Lines:
    """The lines of one task: due whenever it moves, and once it has not moved for so long, from a thread of its own."""

    def __init__(self, title: str, total: float, unit: str) -> None:
        self.started = self._shown = time.monotonic()
        self._title, self._total, self._unit = title, total, unit and f" {unit}"
        self._done = self._found = 0.0
        self._note = ""
        self._lock = Lock()

    def advance(self, amount: float, note: str) -> None:
        """Notes what was done, and prints a line if one is due."""
        with self._lock:
            self._done += amount
            self._note = note
            now = time.monotonic()
            if now - self.started < AT_ONCE:
                self._found = self._done
            if note or self._done < self._total:  # else the last line comes at once
                self._print_if_due(now)

    def tick(self, over: Event) -> None:
        """Prints a line whenever one is due, until the task is over."""
        wait = PLAIN_INTERVAL
        while not over.wait(wait):
            with self._lock:
                now = time.monotonic()
                if self._note or self._done < self._total:  # else another task is under way, inside this one
                    self._print_if_due(now)
                wait = max(PLAIN_INTERVAL - (now - self._shown), AT_ONCE)

    def _print_if_due(self, now: float) -> None:
        if now - self._shown >= PLAIN_INTERVAL:
            self._shown = now
            share = f"{self._title}: {int(self._done)}/{self._total:.0f}{self._unit}"
            parts = [share, f"{now - self.started:.0f} s", *self._eta(now)]
            stderr.print(f"{', '.join(parts)}  {self._note}".rstrip(), markup=False)

    def _eta(self, now: float) -> list[str]:
        """Returns how long the rest takes at the speed so far; nothing where all is done but for what the note says."""
        if self._done >= self._total:
            return []
        if self._done <= self._found:
            return ["eta unknown"]
        return [f"eta {(now - self.started) / (self._done - self._found) * (self._total - self._done):.0f} s"]


def progress_display() -> RichProgress | PlainProgress:
    """Returns bars where standard error is a terminal, else plain lines."""
    return RichProgress() if stderr.is_terminal else PlainProgress()


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table: drawn on a terminal, unless it is very long, else tab-separated lines that other programs can read."""
    rows = list(rows)
    if not stdout.is_terminal or len(rows) > MOST_DRAWN:
        sys.stdout.writelines("\t".join(printable(str(value)) for value in row) + "\n" for row in [columns, *rows])
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(str(value))) for value in row))
    stdout.print(table)


class OncePerModel(logging.Filter):
    """Lets each message about how a model's file was read pass once: every step of a finished model reads it again."""

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        if not record.name.startswith("harness.models."):
            return True
        is_new = (message := record.getMessage()) not in self._seen
        self._seen.add(message)
        return is_new


def log_to_console(*, verbose: bool) -> None:
    """Sends the library's log to standard error; one line a message where that is no terminal."""
    handler: logging.Handler = logging.StreamHandler()
    layout = "%(levelname)s: %(message)s"
    if stderr.is_terminal:
        handler = RichHandler(console=stderr, show_path=False, show_time=False, rich_tracebacks=False, markup=False)
        layout = "%(message)s"
    handler.addFilter(OncePerModel())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], format=layout, force=True)
    logging.getLogger("harness").setLevel(logging.DEBUG if verbose else logging.INFO)
