"""Runs of the command line that can be killed, each in a session of its own.

They are forked from a process that has imported the libraries, so that a kill costs the time of the work and not that of imports.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL = 0.02
"""Seconds."""


@dataclass(frozen=True)
class Run:
    """A run at work: the leader of a session and of its process group."""

    process: int

    def code(self) -> int | None:
        """Returns its exit code, the negative number of the signal that ended it, or None while it works."""
        found, status = os.waitpid(self.process, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    def end(self, most: float = 600.0) -> int:
        """Waits for its end and returns its exit code.

        Raises:
            TimeoutError: if it takes longer than that many seconds.
        """
        latest = time.monotonic() + most
        while (code := self.code()) is None:
            if time.monotonic() > latest:
                os.killpg(self.process, signal.SIGKILL)
                raise TimeoutError(f"a run did not end within {most:.0f} s")
            time.sleep(POLL)
        return code

    def wait_for(self, path: Path | None, seconds: float) -> int | None:
        """Waits until it writes a file, and then that many seconds more; returns the exit code if the run ends before."""
        since, code = time.time(), None
        latest = time.monotonic() + seconds if path is None else None
        while code is None and (latest is None or time.monotonic() < latest):
            time.sleep(POLL)
            code = self.code()
            if latest is None and path is not None and path.exists() and path.stat().st_mtime >= since:
                latest = time.monotonic() + seconds
        return code

    def kill(self, *, alone: bool) -> None:
        """Kills the leader alone, or its whole group."""
        with suppress(ProcessLookupError):
            (os.kill if alone else os.killpg)(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)

    def orphans(self, patience: float = 10.0) -> list[int]:
        """Returns the processes of its session that are alive after so many seconds."""
        latest = time.monotonic() + patience
        while (alive := _session(self.process)) and time.monotonic() < latest:
            time.sleep(POLL)
        return alive


def started(arguments: Sequence[str], log: Path, *, file_size: int | None = None) -> Run:
    """Starts `harness` with some arguments.

    Args:
        arguments: The arguments.
        log: Gets what it prints, behind what is in there.
        file_size: Bytes above which it can write no file, as on a full disk.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return Run(process)
    os.setsid()
    code = 99
    try:
        with log.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if file_size is not None:
            _limit_files(file_size)
        code = _main(arguments)
    finally:
        os._exit(code)


def _main(arguments: Sequence[str]) -> int:
    from harness.cli.main import main

    sys.argv = ["harness", *arguments]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _limit_files(size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes fail with EFBIG instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _session(leader: int) -> list[int]:
    """Returns the processes of a session that are no zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found.append(int(folder.name))
    return found
