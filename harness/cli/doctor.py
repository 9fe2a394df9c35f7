"""The state of the installation: packages with their versions, devices, missing parts."""

import ctypes
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from harness.storage.provenance import device_name, package_versions, processor_name
from harness.system.lazy import torch

OPTIONAL = {"kagglehub": "download of the Kaggle data set", "ray": "grids on a cluster"}
MIB = 1 << 20
DRIVERS = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
"""Patterns in /dev of what the drivers of GPUs make: NVIDIA's for cards and boards, AMD's, and Windows' for Linux inside it."""
THREADS = "_ZN2at15get_num_threadsEv"
"""`at::get_num_threads` in PyTorch's library."""


def examine() -> list[tuple[str, str, str]]:
    """Returns rows (check, "ok" | "absent" | "missing", what was found); "missing" is needed, "absent" is optional."""
    rows = [(package, "missing" if found is None else "ok", found or "") for package, found in package_versions().items()]
    rows += [(name, "absent" if find_spec(name) is None else "ok", purpose) for name, purpose in OPTIONAL.items()]
    rows.append(("device", "ok", _device()))
    rows.append(("threads", "ok", str(_threads())))
    rows.append(("free disk here", "ok", f"{shutil.disk_usage(Path()).free // MIB} MiB"))
    return rows


def _device() -> str:
    """Returns the name of the device that a run takes; PyTorch is asked, and imported, only where there may be a GPU."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(pattern)) for pattern in DRIVERS):
        return processor_name()
    return device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _threads() -> int:
    """Returns the threads that PyTorch computes with, from its C++ library: to import it takes ten times as long."""
    package = find_spec("torch")
    folders = [] if package is None else package.submodule_search_locations or ()
    libraries = [path for folder in folders for path in (Path(folder) / "lib").glob("libtorch_cpu.so")]
    try:
        return int(getattr(ctypes.CDLL(str(libraries[0])), THREADS)())
    except (IndexError, OSError, AttributeError):  # another system, or another layout of PyTorch
        return torch.get_num_threads()
