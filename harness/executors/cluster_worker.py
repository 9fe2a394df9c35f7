"""A Ray worker's part: it computes one step, and posts its progress and log to the process that runs the suite."""

import itertools
import os
import pickle
import platform
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from harness.errors import HarnessError
from harness.executors.base import StepReport
from harness.executors.local import computed, reason_of
from harness.executors.worker import Settings
from harness.system.lazy import ray, torch
from harness.system.memory import quick_garbage_collection, reused_memory
from harness.system.progress_relay import Message, Reporter

POST_INTERVAL = 0.2
"""Seconds between two posts of a worker: a message of its own for every batch would cost more than a small batch."""
LAST_POST = 10.0
"""Seconds that a finished step waits for its last messages to arrive."""


@dataclass(frozen=True)
class Home:
    """What a worker takes over from the process that runs the suite before it reads the step."""

    folder: str
    """The working folder: relative paths of a suite begin there."""
    modules: tuple[str, ...]
    """Where modules are searched: a suite's `factory` may lie beside it."""
    variables: Mapping[str, str]
    """Environment variables: places of caches, and that nothing is downloaded."""
    store: str
    sign: str
    """A file in the store that is there as long as the run."""

    def enter(self) -> None:
        """Makes this process see what the other one sees.

        Raises:
            HarnessError: if it does not see the run's store.
        """
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path.extend(place for place in self.modules if place not in sys.path)
        os.environ.update(self.variables)
        if not Path(self.sign).is_file():
            raise HarnessError(
                f"expected the store of the run in {self.store}, found none; is it on a file system that all nodes see?"
            )


class Letter(NamedTuple):
    """A message of a worker."""

    sender: str
    number: int
    """Its place among those of its sender; Ray may deliver one twice."""
    message: Message


class Mailbox:
    """Messages of all workers, kept until the process that runs the suite collects them; a Ray actor."""

    def __init__(self) -> None:
        """Begins empty."""
        self._kept: list[Letter] = []

    def tell(self, letters: list[Letter]) -> None:
        """Keeps messages."""
        self._kept += letters

    def collect(self) -> list[Letter]:
        """Returns the messages since the last call."""
        kept, self._kept = self._kept, []
        return kept


@dataclass
class Post:
    """The connection of a `Reporter`: what is sent goes to the mailbox a moment later, in its order, from a thread of its own."""

    mailbox: Any
    sender: str
    _kept: list[Letter] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def send(self, message: object, /) -> None:
        """Takes a message; none after the end, when the log of this process still comes here."""
        with self._lock:
            if not self._over.is_set():
                self._kept.append(Letter(self.sender, next(self._numbers), cast(Message, message)))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Posts messages until the block ends, and waits until the last ones have arrived."""
        thread = threading.Thread(target=self._post_until_the_end, daemon=True, name="post")
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            with suppress(ray.exceptions.RayError):  # of a step that is done only its progress is lost
                ray.get(self._posted(), timeout=LAST_POST)

    def _post_until_the_end(self) -> None:
        while not self._over.wait(POST_INTERVAL):
            self._posted()

    def _posted(self) -> list[Any]:
        """Posts what there is; returns Ray's references to the calls."""
        with self._lock:
            kept, self._kept = self._kept, []
        return [self.mailbox.tell.remote(kept)] if kept else []


def compute_there(home: Home, settings: bytes, step: bytes, *, threads: int, mailbox: Any, sender: str) -> StepReport:
    """Computes a step in a Ray worker, and returns its report.

    Args:
        home: Entered first.
        settings: The pickled `harness.executors.worker.Settings`.
        step: The pickled step; a result that is in the store already is not computed again.
        threads: Threads of PyTorch, and so of ONNX Runtime: a reused worker has those of its last step, and ONNX Runtime by
            itself takes all cores.
        mailbox: The `Mailbox` actor.
        sender: Names this attempt in the mailbox.

    Raises:
        HarnessError: if the worker does not see the store, or cannot read the step.
    """
    try:
        home.enter()
        given: Settings = pickle.loads(settings)  # noqa: S301 - from the process that runs the suite
        asked = pickle.loads(step)  # noqa: S301
    except Exception as error:  # a module that is missing here, or another version of one, raises anything
        raise HarnessError(f"on node {platform.node()}: {reason_of(error)}") from error
    torch.set_num_threads(threads)
    post = Post(mailbox, sender)
    reporter = Reporter(post)
    with post.open(), _stopped_by_sigterm(), quick_garbage_collection(), reused_memory():
        reporter.take_log(given.level)
        return computed(asked, replace(given.context, progress=reporter))


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Ends a step as Ctrl-C does on SIGTERM, which a node that is shut down sends: Ray's own handler would make it fail."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
