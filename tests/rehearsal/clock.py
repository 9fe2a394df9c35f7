"""A clock that jumps by hours, days and years, and files that were written in 1980 or in the future."""

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from harness.running.watching import RUN_FILE
from tests.rehearsal.checks import broken_entries, differences, left_behind, tables
from tests.rehearsal.kills import SUITE, Place, quiet

HERE = Path(__file__).parents[2]
JUMPING = Path(__file__).with_name("jumping")
"""The folder whose sitecustomize makes the clock jump."""
WHEN = (315_532_800.0, 4_102_444_800.0)
"""Seconds since 1970 of the times that files get: the first days of 1980 and of 2100."""
NEGATIVE = re.compile(r"(?<![\w.:-])-\d[\d,.]* ?s\b")
"""A negative duration in what is printed."""
WATCHED_EVERY = 2.0
"""Seconds."""


@dataclass
class Machine:
    """A machine whose clock jumps, with a store and a results folder.

    Args:
        folder: Where both lie.
        suite: The suite that is run.
    """

    folder: Path
    suite: Path
    faults: list[str] = field(default_factory=list)
    watched: int = 0
    """How often the run was looked at while it worked."""
    began: float = field(default_factory=time.monotonic)

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.folder / "results"

    def run(self, *, jobs: int = 1) -> str:
        """Runs the suite, and looks at it meanwhile; returns what it said."""
        where = ["--store", str(self.folder / "store"), "--out", str(self.results)]
        process = self._started(["run", str(self.suite), *where, "--device", "cpu", "--jobs", str(jobs)])
        while process.poll() is None:
            time.sleep(WATCHED_EVERY)
            if (self.results / RUN_FILE).is_file():
                self.call("watch", str(self.results), "--once")
                self.watched += 1
        said = self._heard(process, "run")
        self._expect_durations(most=time.monotonic() - self.began)
        return said

    def call(self, *arguments: str) -> str:
        """Runs `harness` to its end; returns what it said."""
        return self._heard(self._started(arguments), arguments[0])

    def age(self) -> None:
        """Gives every file of the store and of the results a time in 1980 or in the future."""
        for number, path in enumerate(sorted(self.folder.rglob("*"))):
            os.utime(path, (WHEN[number % len(WHEN)],) * 2)

    def _started(self, arguments: Sequence[str]) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": f"{JUMPING}{os.pathsep}{HERE}"}
        command = [sys.executable, "-m", "harness", *arguments]
        return subprocess.Popen(command, cwd=HERE, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def _heard(self, process: "subprocess.Popen[str]", verb: str) -> str:
        said = process.communicate(timeout=600)[0]
        if process.returncode:
            self.faults.append(f"{verb}: exit code {process.returncode}: {said.splitlines()[-1:]}")
        self.faults += [f"{verb}: {line}" for line in said.splitlines() if NEGATIVE.search(line)]
        return said

    def _expect_durations(self, *, most: float) -> None:
        for what, seconds in durations(self.folder):
            if not (math.isnan(seconds) or 0 <= seconds <= most):
                self.faults.append(f"{what}: {seconds} s, of {most:.0f} s in all")


def durations(folder: Path) -> Iterator[tuple[str, float]]:
    """Yields all seconds that tables and entries below a folder name."""
    for path in tables(folder):
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        for name in table.columns:
            if "seconds" in name:
                yield from ((f"{path.name}: {name}", float(value)) for value in table[name])
    for path in folder.rglob("meta.json"):
        yield f"{path.parent.parent.name}/meta.json", float(json.loads(path.read_text())["seconds"])


def jumping_clock(folder: Path) -> list[str]:
    """Returns what is wrong with runs under a clock that jumps, and with all that reads their files later."""
    expected, _ = quiet(Place(folder / "quiet-clock"))
    faults: list[str] = []
    for jobs in (1, 2):
        place = Place(folder / f"clock-{jobs}", jobs)
        machine = Machine(place.folder, SUITE)
        machine.run(jobs=jobs)
        machine.age()
        again = machine.run(jobs=jobs)
        machine.faults += [f"computed again: {line}" for line in again.splitlines() if "step 1 of" in line]
        machine.call("report", str(machine.results))
        removed = machine.call("gc", "--delete", "--store", str(place.store.root))
        machine.faults += [] if "removed 0 folders" in removed else [f"gc: {removed}"]
        machine.faults += [] if machine.watched else ["watch: never looked at"]
        machine.faults += differences(machine.results, expected) + broken_entries(place.store) + left_behind(place.store)
        faults += [f"jobs {jobs}: {line}" for line in machine.faults]
    return faults
