"""The state of the installation: packages with their versions, devices, missing parts."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from harness.storage.provenance import device_name, package_versions, processor_name
from harness.system.device import may_have_gpu, torch_threads
from harness.system.lazy import torch

OPTIONAL = {"kagglehub": "download of the Kaggle data set", "ray": "grids on a cluster"}
MIB = 1 << 20


def examine() -> list[tuple[str, str, str]]:
    """Returns rows (check, "ok" | "absent" | "missing", what was found); "missing" is needed, "absent" is optional."""
    rows = [(package, "missing" if found is None else "ok", found or "") for package, found in package_versions().items()]
    rows += [(name, "absent" if find_spec(name) is None else "ok", purpose) for name, purpose in OPTIONAL.items()]
    rows.append(("device", "ok", _device()))
    rows.append(("threads", "ok", str(torch_threads())))
    rows.append(("free disk here", "ok", f"{shutil.disk_usage(Path()).free // MIB} MiB"))
    return rows


def _device() -> str:
    """Returns the name of the device that a run takes; PyTorch is asked, and imported, only where there may be a GPU."""
    if not may_have_gpu():
        return processor_name()
    return device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
