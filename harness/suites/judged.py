"""The suite that judges one finished model on a folder of photographs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.models.files import saved_in
from harness.models.scripted import is_torchscript
from harness.spec import parse_eps
from harness.suites.models import architecture_fields

BUDGETS = ("2/255", "4/255", "8/255")
"""Linf budgets unless others are named."""
RESOLUTION = 224
"""Side length of images in pixels where neither the file nor the user names one."""
STEPS = 20
"""Of PGD."""
LONGEST_NAME = 50


def judged_suite(
    weights: Path,
    data: Path,
    *,
    arch: str | None = None,
    classes: Path | None = None,
    eps: Sequence[str] = (),
    resolution: int | None = None,
) -> dict[str, Any]:
    """Returns the fields of a suite file that attacks a finished model; paths in it are absolute.

    Args:
        weights: The file: a state dict, .safetensors, .h5 or TorchScript.
        data: The folder of photographs.
        arch: timm's name of the architecture, or "package.module:callable"; TorchScript and .h5 need none.
        classes: Text file with a class name a line, in the order of the logits.
        eps: Linf budgets.
        resolution: Side length of the images in pixels; that in a .h5 file, else 224, where it is left out.

    Raises:
        ModelError: if there is no such file, it is damaged, or it holds tensors alone and no architecture is named.
        ValueError: if a budget is none.
    """
    if not weights.is_file():
        raise ModelError(f"{weights}: expected a file of weights, found {'a folder' if weights.is_dir() else 'none'}")
    saved, scripted = saved_in(str(weights)), is_torchscript(str(weights))
    if arch is None and saved is None and not scripted and weights.suffix.lower() != ".onnx":
        raise ModelError(f"{weights}: holds tensors alone: expected --arch NAME beside it, such as --arch efficientnet_b0")
    budgets = sorted(dict.fromkeys(eps or BUDGETS), key=parse_eps)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", weights.stem).strip("-_")[:LONGEST_NAME] or "model"
    model = {"weights": str(weights.resolve()), **({} if classes is None else {"classes": str(classes.resolve())})}
    if resolution is None:
        resolution = saved.resolution if saved else RESOLUTION
    folder = {"name": "image_folder", "root": str(data.resolve()), "held_out": True}
    return {
        "schema_version": 1,
        "name": f"judge-{name}",
        "title": f"{weights.name}, judged as it is",
        "dataset": {**folder, "resolution": resolution, **_resize_of(saved)},
        **({} if arch is None or scripted else {"architecture": architecture_fields(arch)}),
        "models": {name: model},
        "threat_model": {"norm": "Linf", "eps": budgets},
        "attacks": {
            "random_noise": {"name": "random_noise"},
            "fgsm": {"name": "fgsm"},
            "pgd": {"name": "pgd", "steps": STEPS},
            "audited": {"name": "audited", "audit_at": [budgets[len(budgets) // 2]]},
        },
    }


def _resize_of(saved: Any) -> dict[str, str]:
    """Returns how images become square, where the file of the model says so."""
    return {} if saved is None else {"resize": saved.resize}
