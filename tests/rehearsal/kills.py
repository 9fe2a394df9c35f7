"""Kills runs with SIGKILL at random moments, runs them again to the end, and compares their tables with those of a quiet run."""

import logging
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from harness.executors.choice import LOCAL
from harness.executors.cluster import MAX_RETRIES
from harness.running.watching import RUN_FILE
from harness.storage.store import Store
from tests.rehearsal.checks import broken_entries, differences, folders_of_ray, left_behind
from tests.rehearsal.runs import Run, started

SUITE = Path(__file__).with_name("suite.yaml")
IN_A_ROW = 6
"""Kills of one run, at most, before it may end."""
ALONE = 0.3
"""Share of the kills that hit the first process alone, so that its workers must end by themselves."""
AMID_THE_START = 0.1
"""Share of the kills that may come before the first step."""
ONE_WORKER = 0.5
"""Share of the kills that hit a single worker of Ray, whose step must begin again in the same run."""
PATIENCE, OF_RAY, HELPERS_END = 10.0, 60.0, 120.0
"""Seconds that the processes of a killed run have to end: the harness's own; workers that Ray starts just then; its helpers."""


logger = logging.getLogger(__name__)


@dataclass
class Place:
    """A fresh store with a results folder."""

    folder: Path
    jobs: int = 1
    executor: str = LOCAL
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.log = self.folder.with_suffix(".log")

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def run(self, *, results: Path | None = None, log: Path | None = None, **limits: int) -> Run:
        """Starts a run."""
        where = ["--store", str(self.store.root), "--out", str(results or self.results)]
        how = ["--executor", self.executor, "--jobs", str(self.jobs)]
        return started(["run", str(SUITE), *where, *how], log or self.log, **limits)

    def remove_garbage(self) -> int:
        """Runs `harness gc --delete`; returns its exit code."""
        return started(["gc", "--delete", "--store", str(self.store.root)], self.log).end()


@dataclass
class Found:
    """What a rehearsal found."""

    kills: Counter[str] = field(default_factory=Counter)
    """By what was killed."""
    amid: int = 0
    """Those after the first finished step."""
    reruns: int = 0
    longest: float = 0.0
    """Seconds until the last process of a killed run had ended, Ray's helpers apart."""
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} of {what}" for what, count in sorted(self.kills.items()))
        after = f"{self.amid} of them after the first finished step"
        ended = f"{self.reruns} runs to the end, processes of killed ones gone after {self.longest:.1f} s at most"
        return f"{self.kills.total()} kills ({kinds}), {after}, {ended}, {len(self.faults)} faults"

    def note(self, where: str, what: str, faults: list[str] | list[int]) -> None:
        """Notes faults, if there are any."""
        if faults:
            self.faults.append(f"{where}: {what}: {faults}")
            logger.error("%s", self.faults[-1])


def quiet(place: Place) -> tuple[Path, float]:
    """Returns the tables of a run that nobody disturbs, and the seconds that it worked."""
    started_at = time.monotonic()
    codes = [place.run().end()]
    worked = time.monotonic() - started_at
    codes.append(place.run().end())  # it says "cached" of every step, as the last run of a rehearsal does
    if any(codes):
        raise RuntimeError(f"a quiet run ended with exit code {max(codes)}, see {place.log}")
    return place.results, worked


def rehearse(folder: Path, *, kills: int, jobs: int, seed: int, executor: str = LOCAL) -> Found:
    """Returns what was found in so many kills; the tables are compared with those of a local run."""
    name, chance, found = f"{executor}-{jobs}", random.Random(f"{seed} {executor} {jobs}"), Found()  # noqa: S311 - moments, no secrets
    expected, worked = quiet(Place(folder / f"quiet-{jobs}", jobs))
    before = folders_of_ray()
    if executor != LOCAL:
        tables, worked = quiet(Place(folder / f"quiet-{name}", jobs, executor))
        found.note(name, "tables of a quiet run", differences(tables, expected))
    gone: list[Run] = []
    while found.kills.total() < kills:
        place = Place(folder / f"killed-{name}", jobs, executor)
        where = f"{name}, run {found.reruns + 1}"
        for _ in range(chance.randint(1, min(IN_A_ROW, kills - found.kills.total()))):
            if (run := _killed(place, chance, worked, found, where)) is None:
                break
            gone.append(run)
        found.reruns += 1
        found.note(where, "exit codes of the last runs", [code for code in (place.run().end(), place.run().end()) if code])
        found.note(where, "tables", differences(place.results, expected))
        found.note(where, "entries", broken_entries(place.store))
        found.note(where, "gc", [code for code in [place.remove_garbage()] if code])
        found.note(where, "left behind", left_behind(place.store))
        logger.info("%s: %s", where, found)
    latest = time.monotonic() + HELPERS_END
    found.note(name, "helpers that outlive a kill", [it for run in gone for it in run.orphans(latest - time.monotonic())])
    found.note(name, "gc once they are gone", [code for code in [place.remove_garbage()] if code])
    found.note(name, "folders of Ray left behind", sorted(folders_of_ray() - before))
    return found


def _killed(place: Place, chance: random.Random, worked: float, found: Found, where: str) -> Run | None:
    """Starts a run, kills workers of Ray, and then the run; returns it, or None if it ended before."""
    run, lost = place.run(), 0
    first = None if chance.random() < AMID_THE_START else place.results / RUN_FILE
    while (code := run.wait_for(first, chance.uniform(0, worked))) is None:
        first = None
        workers = place.executor != LOCAL and lost < MAX_RETRIES and chance.random() < ONE_WORKER
        if (what := run.kill_worker(chance) if workers else run.kill(alone=chance.random() < ALONE)) is None:
            continue  # Ray has not started yet
        found.kills[what] += 1
        found.amid += any(place.store.root.glob("[!.]*/[!.]*"))
        found.note(where, "entries after a kill", broken_entries(place.store))
        if not workers:
            killed, own = time.monotonic(), place.executor == LOCAL
            found.note(where, "processes that outlive a kill", run.orphans(PATIENCE if own else OF_RAY, helpers=own))
            found.longest = max(found.longest, time.monotonic() - killed)
            return run
        lost += 1
    found.note(where, "exit code", [code] if code else [])
    return None


def together(folder: Path) -> list[str]:
    """Returns what is wrong after two, and three, runs on one store at once, each time with one more that is killed."""
    expected, worked = quiet(Place(folder / "quiet-together"))
    return [line for runs in (2, 3) for line in _together(Place(folder / f"together-{runs}"), expected, worked, runs=runs)]


def _together(place: Place, expected: Path, worked: float, *, runs: int) -> list[str]:
    found, where = Found(), f"{runs} together"
    at_work = [place.run(results=place.folder / f"results-{number}") for number in range(runs)]
    victim = place.run(results=place.folder / "killed")
    if victim.wait_for(None, worked) is None:
        victim.kill(alone=False)
        found.note(where, "processes that outlive a kill", victim.orphans(PATIENCE))
    found.note(where, "exit codes", [code for code in (run.end() for run in at_work) if code])
    again = [place.run(results=place.folder / f"results-{number}") for number in range(runs)]
    found.note(where, "exit codes of the last runs", [code for code in (run.end() for run in again) if code])
    for number in range(runs):
        found.note(where, "tables", differences(place.folder / f"results-{number}", expected))
    found.note(where, "entries", broken_entries(place.store))
    found.note(where, "gc", [code for code in [place.remove_garbage()] if code])
    note = f"killed/{RUN_FILE}"  # stays, so that gc keeps what the killed run may go on with
    found.note(where, "left behind", [left for left in left_behind(place.store) if not left.endswith(note)])
    return found.faults
