"""Devices and threads as PyTorch would find them, told without its import as far as that is possible."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from harness.system.lazy import torch
from harness.system.remembered import remembered

DRIVERS = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
"""Patterns in /dev of what the drivers of GPUs make: NVIDIA's for cards and boards, AMD's, and Windows' for Linux inside it."""
THREADS = "_ZN2at15get_num_threadsEv"
"""`at::get_num_threads` in PyTorch's library."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set how many threads PyTorch begins with."""
CPU_BATCH = 32
"""Images of a pass on a CPU where nobody names another number. Larger batches are no faster: EfficientNet-B0 at 128x128 took
1.0 s for 32 images at once, 1.25 s in eights."""


class DeviceField:
    """A field of a dataclass that holds a device, or the name of one, which becomes the device whenever it is read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._place = f"_{name}"

    def __get__(self, holder: object, owner: type | None = None) -> torch.device:
        """Returns the device."""
        if holder is None:  # what comes back here would be the field's default
            raise AttributeError(self._place)
        value = self.given(holder)
        return torch.device(value) if isinstance(value, str) else value

    def __set__(self, holder: object, value: torch.device | str) -> None:
        """Keeps a device, or its name."""
        vars(holder)[self._place] = value

    def given(self, holder: object) -> torch.device | str:
        """Returns what the field was set to."""
        return vars(holder)[self._place]


def may_have_gpu() -> bool:
    """Returns whether there may be a GPU, which PyTorch alone can tell for sure."""
    return sys.platform != "linux" or any(any(Path("/dev").glob(pattern)) for pattern in DRIVERS)


def torch_threads() -> int:
    """Returns the threads that PyTorch computes with, without its import where that is possible."""
    if "torch" in sys.modules:
        return torch.get_num_threads()
    machine = platform.node(), _usable_cores()
    return int(_initial_threads(version("torch"), *machine, *map(os.environ.get, THREAD_VARIABLES)))


@remembered
def _initial_threads(release: str, machine: str, cores: int, *variables: str | None) -> float:
    """Returns the threads that PyTorch begins with, from its C++ library: to import PyTorch takes ten times as long.

    All that the number follows from is an argument, so that a run need not even load the library to say it again.

    Args:
        release: PyTorch's version.
        machine: Its name, as results may be gone on with on another one.
        cores: Cores that the process may use.
        *variables: The values of THREAD_VARIABLES.
    """
    package = find_spec("torch")
    folders = [] if package is None else package.submodule_search_locations or ()
    libraries = [path for folder in folders for path in (Path(folder) / "lib").glob("libtorch_cpu.so")]
    try:
        return float(getattr(ctypes.CDLL(str(libraries[0])), THREADS)())
    except (IndexError, OSError, AttributeError):  # another system, or another layout of PyTorch
        return float(torch.get_num_threads())


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
