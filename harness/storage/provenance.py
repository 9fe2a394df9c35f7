"""Where numbers come from: versions, commit, host and device."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.system.device import torch_threads
from harness.system.lazy import torch
from harness.system.precision import full_float32, unless_mixed

PACKAGES = (
    *("robustness-harness", "torch", "torchvision", "timm", "torchattacks", "adversarial-robustness-toolbox", "numpy", "pandas"),
    *("scikit-learn", "scipy", "onnx", "onnxruntime", "h5py", "pydantic", "safetensors"),
)
INITIAL_FLAGS: Mapping[str, Any] = {
    "tf32": False,
    "cudnn_tf32": True,
    "cudnn_benchmark": False,
    "cudnn_deterministic": False,
    "evaluation": {"tf32": False, "cudnn_tf32": False},
}
"""PyTorch's flags after its import, before anything sets them; a test holds them against its own."""
OVERRIDE = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
"""The environment variable with which PyTorch begins with other flags."""


def describe_host(device: torch.device | str) -> dict[str, Any]:
    """Returns what a number may depend on beside its specification: versions, commit, host, device, threads, flags.

    The flags are those of the moment; under "evaluation" stand the ones that every network is judged under. Where nothing has
    imported PyTorch, they are those that it begins with.

    Args:
        device: The device; a name is the CPU's.
    """
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": package_versions(),
        "git": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device_name(device),
        "threads": torch_threads(),
        **(INITIAL_FLAGS if _is_untouched() else _flags()),
    }


@cache
def package_versions() -> dict[str, str | None]:
    """Returns the installed version of every package that numbers depend on; None where one is missing."""
    return {package: _version_of(package) for package in PACKAGES}


@cache
def git_state() -> dict[str, Any]:
    """Returns the commit that the harness runs from and whether its files differ from it; None outside a checkout."""
    here = Path(__file__).parents[1]
    tracked = _git(here, "ls-files", "--error-unmatch", "__init__.py") is not None
    commit = _git(here, "rev-parse", "HEAD") if tracked else None
    return {"commit": commit, "dirty": None if commit is None else bool(_git(here, "status", "--porcelain", "--", str(here)))}


def device_name(device: torch.device | str) -> str:
    """Returns the processor's or the accelerator's name; a text in place of a device is the kind of a processor."""
    if isinstance(device, str):
        return processor_name(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name(device.type)


def processor_name(kind: str = "cpu") -> str:
    """Returns the processor's name, after the kind of device that it is to PyTorch."""
    return f"{kind} ({_processor()}, {os.cpu_count()} cores)"


def _is_untouched() -> bool:
    """Returns whether PyTorch's flags are the initial ones, as it is not imported and no variable changes them."""
    return "torch" not in sys.modules and OVERRIDE not in os.environ


def _flags() -> dict[str, Any]:
    with full_float32():
        evaluation = _tf32_flags()
    cudnn = torch.backends.cudnn
    return {
        **_tf32_flags(),
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
        "evaluation": evaluation,
    }


def _tf32_flags() -> dict[str, bool | None]:
    """Returns whether products and convolutions may round to TF32; None where the caller's choices cannot be told apart."""
    return {
        "tf32": unless_mixed(lambda: torch.backends.cuda.matmul.allow_tf32),
        "cudnn_tf32": unless_mixed(lambda: torch.backends.cudnn.allow_tf32),
    }


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
