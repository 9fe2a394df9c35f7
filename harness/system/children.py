"""Processes that this one starts: each ends with this one, and one that dies while it starts is told of at once.

What is handed over at the start of a process fits into a pipe, as a parent that still writes when its child is gone waits for
ever, and no signal ends that. All else is sent when the child has said that it listens.
"""

import ctypes
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import current_process, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from threading import Thread

from harness.system.interrupts import blocked

UNGUARDED = 78
"""What a child exits with whose start would begin the parent's work again: EX_CONFIG of sysexits.h."""
GUARD = 'if __name__ == "__main__"'
TERMINATION = 2.0
"""Seconds that children have to clean up after they are told to stop."""
DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of Linux's prctl.h."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listening:
    """A child has started, and takes what is sent."""


@dataclass(frozen=True)
class Lost:
    """A child has ended without being told to."""

    reason: str
    """One line: "was killed by SIGKILL"."""
    code: int
    """What it exited with, or the negative number of the signal that killed it."""


@dataclass
class Child:
    """A process and the line to it.

    Args:
        process: The process.
        connection: This end of the line.
        outbox: What it is sent when it listens, pickled.
        listens: Whether it has said that it does.
    """

    process: BaseProcess
    connection: Connection
    outbox: list[memoryview] = field(default_factory=list)
    listens: bool = False

    def send(self, value: object) -> None:
        """Sends something, or keeps it until the child listens.

        Raises:
            pickle.PicklingError: if it cannot be pickled; also a TypeError or AttributeError.
        """
        self.outbox.append(ForkingPickler.dumps(value))
        if self.listens:
            self._deliver()

    def told(self) -> Iterator[object]:
        """Yields what the child has told since; `Lost` in the end if it has ended."""
        alive = self.process.is_alive()
        try:
            while self.connection.poll():
                if isinstance(message := self.connection.recv(), Listening):
                    self.listens = True
                    self._deliver()
                else:
                    yield message
        except (EOFError, OSError):  # it has ended, maybe amid a message
            self.process.join(TERMINATION)
            alive = False
        if not alive:
            yield Lost(self._end(), self.process.exitcode or 0)

    def _deliver(self) -> None:
        while self.outbox:
            with suppress(OSError):  # of a child that is gone `told` tells
                self.connection.send_bytes(self.outbox.pop(0))

    def _end(self) -> str:
        """Returns in words how the process has ended."""
        code = self.process.exitcode or 0
        how = f"was killed by {_name_of(-code)}" if code < 0 else f"ended with exit code {code}"
        if self.listens:
            return how
        guard = f"; a likely cause is a script that does not guard its main part with `{GUARD}`"
        return f"{how} while it started{guard if code >= 0 else ''}"


def started(entry: str) -> Child:
    """Starts a process that calls a function with its end of a line.

    Args:
        entry: "module:function"; called with a `multiprocessing.connection.Connection`.

    Raises:
        OSError: if the system has no room for another process.
    """
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_run, args=(there, entry))
    with there, blocked(signal.SIGINT, signal.SIGTERM):  # a terminal sends Ctrl-C to all: children are stopped by this one
        process.start()
    return Child(process, here)


def await_news(children: Iterable[Child]) -> None:
    """Waits until a child tells something or ends."""
    wait([source for child in children for source in (child.connection, child.process.sentinel)])


def end(children: Iterable[Child], *, patience: float = TERMINATION) -> None:
    """Ends children: those that have started are told to stop first.

    Args:
        children: The children.
        patience: Seconds that all of them have to clean up before they are killed.
    """
    ended = list(children)
    told = [child for child in ended if child.listens and patience]
    for child in told:
        child.process.terminate()
    latest = time.monotonic() + patience
    for child in told:
        child.process.join(max(0.0, latest - time.monotonic()))
    for child in ended:
        child.process.kill()
    for child in ended:
        child.process.join()
        child.connection.close()


def refuse_unguarded() -> None:
    """Ends a child in which the start of the parent's work is about to be repeated.

    A child imports its parent's script before it does anything; where that script does not guard its main part, this import
    comes here.
    """
    if getattr(current_process(), "_inheriting", False):  # as multiprocessing itself knows it
        sys.exit(UNGUARDED)


def end_with_parent() -> None:
    """Lets this process end as soon as its parent does, whatever ends that, even amid a long computation."""
    if (parent := parent_process()) is None:
        return
    Thread(target=_await_end, args=(parent.join,), daemon=True).start()
    if sys.platform == "linux":  # at once and for sure: the thread needs its turn among those that compute
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, ctypes.c_ulong(signal.SIGKILL))
        if os.getppid() != parent.pid:
            os._exit(1)


def _name_of(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _await_end(join: Callable[[], None]) -> None:
    join()
    os._exit(1)


def _run(connection: Connection, entry: str) -> None:
    """What each child does: heavy modules are imported when it is already tied to its parent."""
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    module, _, function = entry.partition(":")
    call = getattr(importlib.import_module(module), function)
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.send(Listening())
        call(connection)
