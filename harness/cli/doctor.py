"""The state of the installation: packages with their versions, devices, missing parts."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import torch

from harness.storage.provenance import device_name, package_versions

OPTIONAL = {"kagglehub": "download of the Kaggle data set", "ray": "grids on a cluster"}
MIB = 1 << 20


def examine() -> list[tuple[str, str, str]]:
    """Returns rows (check, "ok" | "absent" | "missing", what was found); "missing" is needed, "absent" is optional."""
    rows = [(package, "missing" if found is None else "ok", found or "") for package, found in package_versions().items()]
    rows += [(name, "absent" if find_spec(name) is None else "ok", purpose) for name, purpose in OPTIONAL.items()]
    rows.append(("device", "ok", device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))))
    rows.append(("threads", "ok", str(torch.get_num_threads())))
    rows.append(("free disk here", "ok", f"{shutil.disk_usage(Path()).free // MIB} MiB"))
    return rows
