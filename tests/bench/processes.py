"""What a process takes: seconds and memory."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Spent(NamedTuple):
    """What a process took."""

    wall: float
    processor: float
    memory: float
    """Its largest resident size in MiB."""


def spent_by(command: Sequence[str], variables: Mapping[str, str]) -> Spent:
    """Runs Python in a process of its own, with compiled files as an installed program has them.

    Args:
        command: Its arguments.
        variables: Environment variables to set.

    Raises:
        RuntimeError: if it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= variables
    started = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process, memory = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.DEVNULL), 0.0
    while process.poll() is None:
        memory = max(memory, _peak_memory(process.pid))
        time.sleep(0.02)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Spent(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, memory)


def _peak_memory(process: int) -> float:
    """Returns the largest resident size of a process in MiB, from Linux's files; rusage has that of who started it in it."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
    except OSError:  # it has just ended
        return 0.0
