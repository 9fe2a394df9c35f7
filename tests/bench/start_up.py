"""Start-up: processor time of the verbs that compute nothing, and of a run whose steps are all in the store."""

import os
import resource
import subprocess
import sys
import time
from statistics import median

from harness.cli.console import show_table

STARTS = 5
VERBS = ("--help", "list", "list attacks", "validate quickstart", "plan quickstart", "doctor")
CACHED_RUN = ("run", "quickstart", "--device", "cpu")


def show_start_up() -> None:
    """Measures each verb in processes of its own; the run is made once before, in the working directory's results."""
    start(*CACHED_RUN)
    digest = next(line.split("\t")[2] for line in _output("plan", "quickstart").splitlines() if line.endswith("\tfinished"))
    rows = []
    for verb in (*VERBS, f"show {digest}", "report quickstart", " ".join(CACHED_RUN)):
        found = [start(*verb.split()) for _ in range(STARTS)]
        rows.append([f"harness {verb}", *(f"{median(of_each):.2f}" for of_each in zip(*found, strict=True))])
    show_table(f"Start-up, medians of {STARTS}", ["command", "processor s", "wall s"], rows)


def start(*arguments: str) -> tuple[float, float]:
    """Runs a verb and returns the processor time, in user and system mode, and the wall time that it took, in seconds."""
    before, started = _spent(), time.perf_counter()
    _output(*arguments)
    return _spent() - before, time.perf_counter() - started


def _output(*arguments: str) -> str:
    """Returns what a verb prints; with compiled Python files, as an installed program has them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
