"""Progress of long work: a small protocol, which the command line draws; the library shows nothing by default."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float, str], None]
"""Called with the amount of work just done and a short note, e.g. `advance(1, "loss 0.31")`."""


class Progress(Protocol):
    """Something that can show tasks, each with a title, a total and an ETA."""

    def task(self, title: str, total: float, unit: str = "") -> AbstractContextManager[Advance]:
        """Opens a task.

        Args:
            title: What is done.
            total: How many units of work there are.
            unit: What they are, in the plural: "images", "batches".

        Returns:
            The value in `with` is told of the units done. An amount may be 0, to say only what goes on.
        """
        ...


class Silent:
    """A progress display that shows nothing."""

    @contextmanager
    def task(self, title: str, total: float, unit: str = "") -> Iterator[Advance]:
        """Accepts every report."""
        yield _ignore


def _ignore(amount: float, note: str) -> None:
    """Does nothing with a report."""
