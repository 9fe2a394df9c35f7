"""A process that holds a lock and is stopped: others wait for it, say so, can be stopped themselves, and go on."""

import fcntl
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal.checks import broken_entries, differences
from tests.rehearsal.kills import PATIENCE, Place, quiet
from tests.rehearsal.runs import POLL, Run

STOPS_WITHIN = 5.0
"""Seconds that a run has to end after Ctrl-C, on a machine that does nothing else."""
LOOKS = 1.0
"""Seconds in which a waiting run must say nothing more."""


@dataclass(frozen=True)
class Holder:
    """A stopped process that holds a lock: the first process of a run, or a worker of it."""

    run: Run
    process: int

    def goes_on(self) -> None:
        """Lets it go on."""
        os.kill(self.process, signal.SIGCONT)

    def is_killed(self) -> None:
        """Kills it."""
        os.kill(self.process, signal.SIGKILL)


def stopped_holder(folder: Path) -> list[str]:
    """Returns what is wrong after holders of locks were stopped: with one job the run, with two a worker."""
    expected, worked = quiet(Place(folder / "quiet-stopped"))
    faults: list[str] = []
    for jobs in (1, 2):
        for killed in (False, True):
            place = Place(folder / f"stopped-{jobs}", jobs)
            found = _others_wait(place, _stopped(place, worked), expected, killed=killed)
            faults += [f"jobs {jobs}, {'killed' if killed else 'went on'}: {line}" for line in found]
    return faults + [f"Ctrl-C with a stopped worker: {line}" for line in _stopped_worker_of_ones_own(folder, worked)]


def _others_wait(place: Place, holder: Holder, expected: Path, *, killed: bool) -> list[str]:
    """Two runs wait for a stopped holder; one is stopped by Ctrl-C, the other goes on once the holder does or is killed."""
    first, second = (place.folder / f"waiting-{number}" for number in (1, 2))
    waiting, log = place.run(results=first, log=first.with_suffix(".log")), first.with_suffix(".log")
    faults = _says_once(log, f"waiting for process {holder.process} on ", waiting)
    faults += [f"after Ctrl-C {line}" for line in _interrupted(waiting)]
    waiting = place.run(results=second, log=second.with_suffix(".log"))
    faults += _says_once(second.with_suffix(".log"), f"waiting for process {holder.process} on ", waiting)
    (holder.is_killed if killed else holder.goes_on)()
    codes = {"of the waiting run": waiting.end(), "of the holder": holder.run.end()}
    allowed = {"of the holder"} if killed else set()  # it was killed, or lost a worker and so a step
    faults += [f"exit code {who}: {code}" for who, code in codes.items() if code and who not in allowed]
    for results in (place.results, second):
        faults += [f"exit code of the last run: {code}" for code in [place.run(results=results).end()] if code]
        faults += differences(results, expected)  # it says "cached" of every step now
    return faults + broken_entries(place.store)


def _stopped_worker_of_ones_own(folder: Path, worked: float) -> list[str]:
    """Ctrl-C ends a run one of whose own workers is stopped."""
    place = Place(folder / "stopped-own", 2)
    holder = _stopped(place, worked)
    return _interrupted(holder.run) + broken_entries(place.store)


def _stopped(place: Place, worked: float) -> Holder:
    """Starts a run, waits until it is amid its steps, and stops the process that holds a lock then."""
    run = place.run()
    run.wait_for(None, worked / 4)
    latest = time.monotonic() + 60
    while time.monotonic() < latest:
        for lock in (place.store.root / ".claims").glob("*"):
            process = _holder_of(lock)
            if process:
                os.kill(process, signal.SIGSTOP)
                time.sleep(POLL)
                if _is_held(lock):
                    return Holder(run, process)
                os.kill(process, signal.SIGCONT)
        time.sleep(POLL)
    raise RuntimeError(f"no process of a run held a lock, see {place.log}")


def _holder_of(lock: Path) -> int:
    try:
        return int(json.loads(lock.read_text())["process"])
    except (OSError, ValueError):
        return 0


def _is_held(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _says_once(log: Path, what: str, run: Run) -> list[str]:
    """Returns a fault unless a run says something in one line, and then waits."""
    latest = time.monotonic() + 120
    while time.monotonic() < latest and (not log.is_file() or what not in log.read_text()):
        time.sleep(POLL)
    code = run.wait_for(None, LOOKS)
    said = [line for line in log.read_text().splitlines() if "waiting for" in line]
    faults = [] if code is None else [f"a run that should wait ended with exit code {code}"]
    return faults if len(said) == 1 and what in said[0] else [*faults, f"expected one line with {what!r}, got {said}"]


def _interrupted(run: Run) -> list[str]:
    """Sends Ctrl-C; returns a fault unless the run ends soon, with exit code 130 and without a process."""
    began = time.monotonic()
    os.kill(run.process, signal.SIGINT)
    code, seconds = run.end(), time.monotonic() - began
    most = STOPS_WITHIN * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    faults = [] if code == 130 else [f"exit code {code}"]
    faults += [] if seconds <= most else [f"it ended after {seconds:.1f} s"]
    return faults + [f"left: {process}" for process in run.orphans(PATIENCE)]
