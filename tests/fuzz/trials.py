"""One trial: a file, and what its reader does with it, within bounds of time and memory."""

import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from tests.fuzz.readers import Reader

SECONDS = 5.0
"""Longest time of processor that a reader may take for a file of some kilobytes."""
MEMORY = 1_000_000_000
"""Most bytes by which it may raise the peak of the process."""
ADDRESS_SPACE = 16 * 2**30
"""Above what is mapped already nothing more can be allocated: a reader that wants it gets an error instead of the machine."""


class TooSlow(BaseException):
    """Ends a reader that takes too long; no Exception, so that no reader swallows it."""


@dataclass
class Trials:
    """The trials of one reader.

    Args:
        reader: The reader.
        folder: Where its files are written; the last one is left there if the process dies.
    """

    reader: Reader
    folder: Path
    count: int = 0
    refused: int = 0
    faults: dict[str, bytes] = field(default_factory=dict)
    """What went wrong, and the first file that showed it."""

    def run(self, content: bytes) -> None:
        """Reads one file, and notes what is not as it should be."""
        path = self.folder / self.reader.name
        path.write_bytes(content)
        before, started = _peak(), time.process_time()
        self.count += 1
        try:
            with bounded():
                self.reader.read(path)
        except HarnessError as error:
            self.refused += 1
            if not str(error).strip():
                self._note("an empty message", content)
        except (Exception, TooSlow) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self._note(f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}: {str(error)[:200]}", content)
        if (grown := _peak() - before) > MEMORY:
            self._note(f"{grown / 1e9:.0f} GB", content)
        if time.process_time() - started > SECONDS:
            self._note("more time than allowed", content)

    def _note(self, what: str, content: bytes) -> None:
        self.faults.setdefault(what, content)


@contextmanager
def bounded() -> Iterator[None]:
    """Ends what runs inside after some seconds, and bounds the memory that it can ask for."""

    def stop(*_: object) -> None:
        raise TooSlow("took too long")

    old = signal.signal(signal.SIGALRM, stop)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_mapped() + ADDRESS_SPACE, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, 12 * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
