"""Runs of the command line that can be killed, each in a session of its own.

They are forked from a process that has imported the libraries, so that a kill costs the time of the work and not that of imports.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL = 0.02
"""Seconds."""
RAY, HELPER = "ray::", "Agent"
"""Begins the titles of Ray's workers and helpers; is in those of its helpers, which outlive a killed run for a while."""


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
            if latest is None and path is not None and _written(path) >= since:
                latest = time.monotonic() + seconds
        return code

    def kill(self, *, alone: bool) -> str:
        """Kills the leader alone, or its whole group; returns which."""
        with suppress(ProcessLookupError):
            (os.kill if alone else os.killpg)(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        return "the first process" if alone else "the group"

    def kill_worker(self, chance: random.Random) -> str | None:
        """Kills one of Ray's workers; returns which, or None where there is none yet."""
        workers = {number: title for number, title in _session(self.process).items() if title.startswith(RAY)}
        at_stake = sorted(number for number, title in workers.items() if HELPER not in title)
        if not at_stake:
            return None
        with suppress(ProcessLookupError):
            os.kill(chosen := chance.choice(at_stake), signal.SIGKILL)
        words = {f"{RAY}IDLE": "an idle worker", f"{RAY}Mailbox": "the mailbox"}
        return next((what for begin, what in words.items() if workers[chosen].startswith(begin)), "a worker with a step")

    def orphans(self, patience: float, *, helpers: bool = True) -> list[str]:
        """Returns the processes of its session that are alive after so many seconds; Ray's helpers only if they count."""
        latest = time.monotonic() + patience
        while (alive := self._others(helpers)) and time.monotonic() < latest:
            time.sleep(POLL)
        return alive

    def _others(self, helpers: bool) -> list[str]:
        return [f"{number} {title}" for number, title in _session(self.process).items() if helpers or HELPER not in title]


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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started this with SIGINT ignored
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


def _written(path: Path) -> float:
    """Returns when a file was written, 0 where it is not there: a run that ends removes its own."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _session(leader: int) -> dict[int, str]:
    """Returns number -> command of the processes of a session that are no zombies."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return found
