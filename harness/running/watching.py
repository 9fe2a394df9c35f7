"""What a run has done so far, for who looks at it from another terminal."""

import json
import math
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, StoreError
from harness.planning.plan import Plan
from harness.reports.names import eps_text, rate_text
from harness.steps.base import Context
from harness.steps.judgement import OUTCOME
from harness.storage.outcomes import load_outcome
from harness.storage.store import Store, read_json, write_json

RUN_FILE = ".run.json"
"""The file of a results folder that is there as long as a run works for it."""


@dataclass(frozen=True)
class RunState:
    """How far a run is."""

    alive: bool
    """Whether its process works; True where it is on another machine, of which nothing is known here."""
    total: int
    finished: int
    cached: int
    """Steps that were finished before it started."""
    running: tuple[str, ...]
    """Titles of the steps that a process works on."""
    seconds: float
    """Since it started."""
    numbers: tuple[tuple[str, str], ...]
    """Title and accuracies of each finished step that has some."""

    @property
    def left(self) -> int:
        """Steps that are not finished."""
        return self.total - self.finished

    @property
    def eta(self) -> float | None:
        """Seconds to the end if the steps left take as long as those of this run; None before the first one."""
        computed = self.finished - self.cached
        return self.seconds / computed * self.left if computed > 0 else None


@contextmanager
def announced(folder: Path, plan: Plan, context: Context) -> Iterator[None]:
    """Says in the results folder, as long as the block lasts, which steps a run works on."""
    steps = [{"kind": step.KIND, "digest": step.digest, "title": step.title} for step in plan.steps]
    cached = sum(context.entry(step) is not None for step in plan.steps)
    path = folder / RUN_FILE
    with suppress(StoreError):  # a run that computes nothing may read a store that it cannot write
        context.store.note_results(folder)
    now = {"started": datetime.now(UTC).isoformat(), "clock": time.monotonic()}
    record = {"process": os.getpid(), "host": platform.node(), **now}
    write_json(path, {**record, "store": str(context.store.root.absolute()), "cached": cached, "steps": steps})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def state_of(folder: Path) -> RunState | None:
    """Returns how far the run that works for a results folder is; None where none does.

    Raises:
        HarnessError: if the folder or its record is damaged.
    """
    with _expecting_a_run(folder):
        return None if (record := _record(folder)) is None else _state(record)


def steps_of_runs(folders: Iterable[Path]) -> set[str]:
    """Returns the digests of the steps of runs that work for results folders, or were killed there and may be gone on with.

    Raises:
        HarnessError: if a record is damaged.
    """
    found: set[str] = set()
    for folder in folders:
        with _expecting_a_run(folder):
            found |= {str(step["digest"]) for step in (_record(folder) or {"steps": ()})["steps"]}
    return found


def _record(folder: Path) -> Mapping[str, Any] | None:
    """Returns what the run of a results folder says of itself; None where none does, or it ended in between."""
    try:
        return read_json(folder / RUN_FILE)
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


@contextmanager
def _expecting_a_run(folder: Path) -> Iterator[None]:
    """Turns what a damaged record leads to into one line that names it."""
    try:
        yield
    except (StoreError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise HarnessError(f"{folder / RUN_FILE}: expected the record of a run, found something else ({error})") from error


def _state(record: Mapping[str, Any]) -> RunState:
    store = Store(Path(record["store"]))
    found = [(step["title"], store.get(step["kind"], step["digest"]), step["digest"]) for step in record["steps"]]
    done = [(title, entry) for title, entry, _ in found if entry is not None]
    return RunState(
        alive=_is_alive(record),
        total=len(found),
        finished=len(done),
        cached=int(record["cached"]),
        running=tuple(title for title, entry, digest in found if entry is None and _is_claimed(store, digest)),
        seconds=_seconds_since(record),
        numbers=tuple((title, text) for title, entry in done if (text := _known_accuracies(entry.path))),
    )


def _seconds_since(record: Mapping[str, Any]) -> float:
    """Returns the seconds since a run started, never fewer than 0: on this machine by a clock that nobody sets.

    That one counts from the start of the machine, so it says nothing of a run on another one, or before this one started anew.
    """
    passed = time.monotonic() - float(record.get("clock", math.inf))
    if record["host"] == platform.node() and passed >= 0:
        return passed
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(record["started"])).total_seconds())


def _is_claimed(store: Store, digest: str) -> bool:
    """Returns whether a process works on a step; its lock is only looked at, so that nobody waits for who watches."""
    try:
        return _is_alive(json.loads(store.lock_file(digest).read_text()))
    except (OSError, ValueError):
        return False


def _is_alive(holder: Mapping[str, Any]) -> bool:
    if holder["host"] != platform.node():
        return True
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _known_accuracies(folder: Path) -> str:
    """Returns the accuracies of a judged step; who watches reads each entry once, unless a damaged one was computed anew."""
    try:
        return _accuracies(folder, (folder / OUTCOME).stat().st_mtime_ns)
    except OSError:
        return ""


@cache
def _accuracies(folder: Path, written: int) -> str:
    """Returns the accuracies of a judged step, by budget where it has budgets; empty for other steps and damaged ones.

    Args:
        folder: That of the step's entry.
        written: When its outcome was written.
    """
    path = folder / OUTCOME
    if not path.is_file():
        return ""
    try:
        outcome = load_outcome(path)
    except Exception:  # whatever is damaged: a run that meets it reports it
        return ""
    correct = outcome.clean_logits.argmax(axis=1) == outcome.labels
    parts: Sequence[str] = [
        f"{rate_text((correct & ~found.is_adversarial).mean())} % at {eps_text(float(found.eps))}"
        for found in outcome.conditions
        if found.eps is not None
    ]
    return ", ".join(parts) or f"{rate_text(correct.mean())} %"
