"""Progress and log of one process, shown by another."""

import itertools
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from harness.system.progress import Advance, Progress


@dataclass(frozen=True)
class Opened:
    """A task has begun."""

    task: int
    title: str
    total: float
    unit: str


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


Message = Opened | Advanced | Closed | Logged


class Outlet(Protocol):
    """What messages leave through, such as a `multiprocessing.connection.Connection`."""

    def send(self, message: object, /) -> None:
        """Sends a message."""
        ...


@dataclass
class Reporter:
    """The sending end: a progress display, and a handler for the log."""

    connection: Outlet
    _lock: Lock = field(default_factory=Lock)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def send(self, message: object) -> None:
        """Sends a message, or another value that the other end knows; several threads may call it."""
        with self._lock:
            self.connection.send(message)

    @contextmanager
    def task(self, title: str, total: float, unit: str = "") -> Iterator[Advance]:
        """See `harness.system.progress.Progress`."""
        number, whole = next(self._numbers), False
        self.send(Opened(number, title, total, unit))
        try:
            yield lambda amount, note: self.send(Advanced(number, amount, note))
            whole = True
        finally:
            self.send(Closed(number, whole))

    def take_log(self, level: int) -> None:
        """Sends this process's log from now on: what the harness says from `level` on, and the warnings of others."""
        logging.basicConfig(level=logging.WARNING, handlers=[_Telling(self)], format="%(message)s", force=True)
        logging.getLogger("harness").setLevel(level)


class _Telling(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.send(Logged(record.levelno, record.name, self.format(record)))


@dataclass
class Screen:
    """The receiving end, which shows progress and log."""

    progress: Progress
    _tasks: dict[int, tuple[AbstractContextManager[Advance], Advance]] = field(default_factory=dict)

    def show(self, message: Message, *, prefix: str = "") -> None:
        """Shows a message of a reporter, with a prefix before the titles of its tasks; none of a task that is not open."""
        match message:
            case Opened(number, title, total, unit):
                task = self.progress.task(prefix + title, total, unit=unit)
                self._tasks[number] = (task, task.__enter__())
            case Advanced(number, amount, note) if number in self._tasks:
                self._tasks[number][1](amount, note)
            case Closed(number, whole) if number in self._tasks:
                task, _ = self._tasks.pop(number)
                task.__exit__(*((None, None, None) if whole else (_Lost, _Lost(), None)))
            case Logged(level, name, text):
                logging.getLogger(name).log(level, "%s", text)

    def give_up(self) -> None:
        """Ends the tasks that are open, as no message about them will come."""
        for task, _ in self._tasks.values():
            task.__exit__(_Lost, _Lost(), None)
        self._tasks.clear()


class _Lost(Exception):
    """Raised into a progress display for a task that did not end."""
