"""Kills runs with SIGKILL at random moments, runs them again to the end, and compares their tables with those of a quiet run."""

import logging
import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.running.watching import RUN_FILE
from harness.storage.store import Store
from tests.rehearsal.checks import broken_entries, differences, left_behind
from tests.rehearsal.runs import Run, started

SUITE = Path(__file__).with_name("suite.yaml")
IN_A_ROW = 6
"""Kills of one run, at most, before it may end."""
ALONE = 0.3
"""Share of the kills that hit the first process alone, so that its workers must end by themselves."""
AMID_THE_START = 0.1
"""Share of the kills that may come before the first step."""


logger = logging.getLogger(__name__)


@dataclass
class Place:
    """A fresh store with a results folder."""

    folder: Path
    jobs: int
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

    def run(self, *, results: Path | None = None, **limits: int) -> Run:
        """Starts a run."""
        where = ["--store", str(self.store.root), "--out", str(results or self.results)]
        return started(["run", str(SUITE), *where, "--jobs", str(self.jobs)], self.log, **limits)

    def remove_garbage(self) -> int:
        """Runs `harness gc --delete`; returns its exit code."""
        return started(["gc", "--delete", "--store", str(self.store.root)], self.log).end()


@dataclass
class Found:
    """What a rehearsal found."""

    kills: int = 0
    amid: int = 0
    """Those after the first finished step."""
    reruns: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        after = f"{self.amid} of them after the first finished step"
        return f"{self.kills} kills, {after}, {self.reruns} runs to the end, {len(self.faults)} faults"

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


def rehearse(folder: Path, *, kills: int, jobs: int, seed: int) -> Found:
    """Returns what was found in so many kills."""
    chance, found = random.Random(f"{seed} {jobs}"), Found()  # noqa: S311 - moments, no secrets
    expected, worked = quiet(Place(folder / f"quiet-{jobs}", jobs))
    while found.kills < kills:
        place = Place(folder / f"killed-{jobs}", jobs)
        where = f"jobs {jobs}, run {found.reruns + 1}"
        for _ in range(chance.randint(1, min(IN_A_ROW, kills - found.kills))):
            if not _killed(place, chance, worked, found, where):
                break
        found.reruns += 1
        found.note(where, "exit codes of the last runs", [code for code in (place.run().end(), place.run().end()) if code])
        found.note(where, "tables", differences(place.results, expected))
        found.note(where, "entries", broken_entries(place.store))
        found.note(where, "gc", [code for code in [place.remove_garbage()] if code])
        found.note(where, "left behind", left_behind(place.store))
        logger.info("%s: %s", where, found)
    return found


def _killed(place: Place, chance: random.Random, worked: float, found: Found, where: str) -> bool:
    """Starts a run and kills it; returns False if it ended before."""
    run = place.run()
    first = None if chance.random() < AMID_THE_START else place.results / RUN_FILE
    if run.wait_for(first, chance.uniform(0, worked)) is not None:
        return False
    run.kill(alone=chance.random() < ALONE)
    found.kills += 1
    found.note(where, "processes that outlive a kill", run.orphans())
    found.note(where, "entries after a kill", broken_entries(place.store))
    found.amid += any(place.store.root.glob("[!.]*/[!.]*"))
    return True


def together(folder: Path, *, runs: int = 2) -> list[str]:
    """Returns what is wrong after several runs on one store at once, one of them killed."""
    expected, worked = quiet(Place(folder / "quiet-together", 1))
    place, found = Place(folder / "together", 1), Found()
    at_work = [place.run(results=place.folder / f"results-{number}") for number in range(runs)]
    victim = place.run(results=place.folder / "killed")
    if victim.wait_for(None, worked) is None:
        victim.kill(alone=False)
        found.note("together", "processes that outlive a kill", victim.orphans())
    found.note("together", "exit codes", [code for code in (run.end() for run in at_work) if code])
    again = [place.run(results=place.folder / f"results-{number}") for number in range(runs)]
    found.note("together", "exit codes of the last runs", [code for code in (run.end() for run in again) if code])
    for number in range(runs):
        found.note("together", "tables", differences(place.folder / f"results-{number}", expected))
    found.note("together", "entries", broken_entries(place.store))
    return found.faults
