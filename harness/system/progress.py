"""Progress of long work: a small protocol, which the command line draws; the library shows nothing by default."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float, str], None]
"""Called with the amount of work just done and a short note, e.g. `advance(1, "loss 0.31")`."""


class Progress(Protocol):
    """Something that can show tasks, each with a title, a total and an ETA."""

    def task(self, title: str, total: float) -> AbstractContextManager[Advance]:
        """Opens a task of `total` units of work; the value in `with` reports the units done."""
        ...


class Silent:
    """A progress display that shows nothing."""

    @contextmanager
    def task(self, title: str, total: float) -> Iterator[Advance]:
        """Accepts every report."""
        yield _ignore


def _ignore(amount: float, note: str) -> None:
    """Does nothing with a report."""
