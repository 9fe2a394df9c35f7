"""A worker: a process that computes one step after the other and tells its parent how it goes."""

import itertools
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from threading import Lock

import torch

from harness.executors.local import StepReport, computed
from harness.progress import Advance
from harness.steps.base import Context


@dataclass(frozen=True)
class Opened:
    """A task has begun."""

    task: int
    title: str
    total: float


@dataclass(frozen=True)
class Advanced:
    """A task has moved."""

    task: int
    amount: float
    note: str


@dataclass(frozen=True)
class Closed:
    """A task has ended."""

    task: int
    whole: bool
    """Whether it ended without an error."""


@dataclass(frozen=True)
class Logged:
    """A line of the log."""

    level: int
    logger: str
    text: str


Message = Opened | Advanced | Closed | Logged | StepReport
"""What a worker tells; the report is the last one of a step."""


@dataclass
class Reporter:
    """The worker's end of the line: its progress display, and a log handler's way out."""

    connection: Connection
    _lock: Lock = field(default_factory=Lock)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def send(self, message: Message) -> None:
        """Sends a message; several threads may."""
        with self._lock:
            self.connection.send(message)

    @contextmanager
    def task(self, title: str, total: float) -> Iterator[Advance]:
        """See `harness.progress.Progress`."""
        number, whole = next(self._numbers), False
        self.send(Opened(number, title, total))
        try:
            yield lambda amount, note: self.send(Advanced(number, amount, note))
            whole = True
        finally:
            self.send(Closed(number, whole))


class _ToParent(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.send(Logged(record.levelno, record.name, self.format(record)))


def work(connection: Connection, context: Context, threads: int, level: int) -> None:
    """Computes the steps that come through the connection, until it is closed or SIGTERM comes.

    Args:
        connection: Steps come in, messages go out.
        context: Where to run; its progress display is replaced.
        threads: Threads of torch.
        level: Lowest level of the log that is told.
    """
    try:
        signal.signal(signal.SIGTERM, _stop)
        torch.set_num_threads(threads)
        reporter = Reporter(connection)
        logging.basicConfig(level=logging.WARNING, handlers=[_ToParent(reporter)], format="%(message)s", force=True)
        logging.getLogger("harness").setLevel(level)
        context = replace(context, progress=reporter)
        while True:
            reporter.send(computed(connection.recv(), context))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _stop(*_: object) -> None:
    """Ends a step as Ctrl-C does, so that it removes what it has half written; a second signal does not disturb that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
