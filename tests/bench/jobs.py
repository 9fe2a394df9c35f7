"""Attack cells by one job and by two, on the same cores: how much sooner a run ends."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from harness.cli.console import show_table
from tests.bench.workload import PHOTOGRAPHS, STORE, WEIGHTS, at_hand, digits, photographs, workload

ATTACKS = ("pgd", "bim", "mifgsm", "apgd-ce")
EPS = "1/255"


class Setting(NamedTuple):
    """How the cells are computed."""

    jobs: int
    threads: int
    """Threads of each job."""


SETTINGS = (Setting(1, 1), Setting(2, 1), Setting(1, 2))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this part."""
    group = parser.add_argument_group("jobs")
    group.add_argument("--jobs-count", type=int, default=48, help="test images")
    group.add_argument("--jobs-steps", type=int, default=40, help="steps of each attack")
    group.add_argument("--jobs-turns", type=int, default=1, help="runs of each setting, in turns")


def show_jobs(options: argparse.Namespace) -> None:
    """Measures and prints the wall time of whole commands; networks and clean images are in the store before."""
    workload(options.jobs_count, options.device)  # trains what is missing
    seconds: dict[Setting, list[float]] = {setting: [] for setting in SETTINGS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suites = {part: folder / f"{part}.yaml" for part in ("clean", "attacked")}
        for part, path in suites.items():
            path.write_text(yaml.safe_dump(_suite(options, attacked=part == "attacked")))
        shutil.copytree(STORE, folder / "prepared")
        _run(suites["clean"], folder / "prepared", SETTINGS[0])
        for turn in range(options.jobs_turns):
            for setting in SETTINGS:
                store = folder / f"{turn}-{setting.jobs}-{setting.threads}"
                shutil.copytree(folder / "prepared", store)
                seconds[setting].append(_run(suites["attacked"], store, setting))
    _show(seconds, f"{len(ATTACKS)} cells of {options.jobs_steps} steps on {options.jobs_count} images")


def _suite(options: argparse.Namespace, *, attacked: bool) -> Mapping[str, Any]:
    fields = photographs(PHOTOGRAPHS, WEIGHTS) if at_hand() else digits()
    attacks = {name: {"name": name, "steps": options.jobs_steps} for name in ATTACKS} if attacked else {}
    return {
        **fields,
        "models": {"pgd": fields["models"]["pgd"]},
        "attacks": attacks,
        "threat_model": {"norm": "Linf", "eps": [EPS]},
        "evaluation": {"limit": options.jobs_count},
    }


def _run(suite: Path, store: Path, setting: Setting) -> float:
    """Runs a suite as a user does and returns the seconds from its call to its end.

    Raises:
        CalledProcessError: if it does not exit with 0.
    """
    command = [sys.executable, "-m", "harness", "run", str(suite), "--store", str(store), "--out", str(store / "out")]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--jobs", str(setting.jobs)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(setting.threads)},
    )
    return time.perf_counter() - started


def _show(seconds: Mapping[Setting, list[float]], title: str) -> None:
    first = min(seconds[SETTINGS[0]])
    rows = [
        (
            f"{setting.jobs} x {setting.threads}",
            " ".join(f"{value:.0f}" for value in sorted(found)),
            f"{first / min(found):.2f}",
        )
        for setting, found in seconds.items()
    ]
    show_table(title, ["jobs x threads", "wall seconds", "throughput, of 1 x 1, best of each"], rows)
