"""The suite that judges one finished model on a folder of photographs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.models.files import saved_in
from harness.models.scripted import is_torchscript
from harness.onnxfile.architecture import is_onnx, metadata_in, resolution_in
from harness.onnxfile.content import onnx_path
from harness.spec import parse_eps
from harness.suites.models import architecture_fields

BUDGETS = ("2/255", "4/255", "8/255")
"""Linf budgets unless others are named."""
RESOLUTION = 224
"""Side length of images in pixels where neither the file nor the user names one."""
STEPS = 20
"""Of PGD."""
QUERIES = 1000
"""Of each attack without gradients."""
LONGEST_NAME = 50


def judged_suite(
    weights: Path,
    data: Path,
    *,
    arch: str | None = None,
    classes: Path | None = None,
    eps: Sequence[str] = (),
    resolution: int | None = None,
    against: Path | None = None,
) -> dict[str, Any]:
    """Returns the fields of a suite file that attacks a finished model; paths in it are absolute.

    Args:
        weights: The file: a state dict, .safetensors, .h5, TorchScript or ONNX.
        data: The folder of photographs.
        arch: timm's name of the architecture, or "package.module:callable"; TorchScript, .h5 and ONNX need none.
        classes: Text file with a class name a line, in the order of the logits.
        eps: Linf budgets.
        resolution: Side length of the images in pixels; where it is left out that in a .h5 or ONNX file, else 224.
        against: The network that an ONNX file was made from: its gradient is the file's, and it is judged beside it.

    Raises:
        ModelError: if there is no such file, it is damaged, or it holds tensors alone and no architecture is named.
        ValueError: if a budget is none.
    """
    budgets = sorted(dict.fromkeys(eps or BUDGETS), key=parse_eps)
    name = _label_of(weights)
    model = _entry(weights, arch, classes)
    models = {name: model}
    if against is not None:
        if not is_onnx(weights.name):
            raise ModelError(f"--against: expected an ONNX file to judge, got {weights}, which has its own gradient")
        other = _label_of(against)
        twin = other if other != name else f"{other}-twin"
        models = {twin: _entry(against, arch, classes), name: {**model, "twin": twin}}
    elif arch is not None and is_onnx(weights.name):
        raise ModelError(f"--arch: {weights} has its own graph; an architecture is that of a network --against it")
    network = weights if against is None else against
    needs_architecture = arch is not None and not is_torchscript(str(network)) and not is_onnx(network.name)
    side = _resolution_in(weights) if resolution is None else resolution
    folder = {"name": "image_folder", "root": str(data.resolve()), "held_out": True}
    return {
        "schema_version": 1,
        "name": f"judge-{name}",
        "title": f"{weights.name}, judged as it is",
        "dataset": {**folder, "resolution": side, **_resize_in(weights)},
        **({"architecture": architecture_fields(str(arch))} if needs_architecture else {}),
        "models": models,
        "threat_model": {"norm": "Linf", "eps": budgets},
        "attacks": {
            "random_noise": {"name": "random_noise"},
            "fgsm": {"name": "fgsm"},
            "pgd": {"name": "pgd", "steps": STEPS},
            "audited": {"name": "audited", "audit_at": [budgets[len(budgets) // 2]]},
        },
    }


def attacks_without_gradients() -> dict[str, Any]:
    """Returns what a model through which no gradient passes is attacked with: on its logits, and on its labels alone."""
    return {
        "random_noise": {"name": "random_noise"},
        "square": {"name": "square", "queries": QUERIES},
        "hop_skip_jump": {"name": "hop_skip_jump", "queries": QUERIES},
    }


def _entry(file: Path, arch: str | None, classes: Path | None) -> dict[str, Any]:
    """Returns a finished model of a suite.

    Raises:
        ModelError: see `judged_suite`.
    """
    named = {} if classes is None else {"classes": str(classes.resolve())}
    if is_onnx(file.name):
        return {"onnx": str(onnx_path(str(file)).resolve()), **named}
    if not file.is_file():
        raise ModelError(f"{file}: expected a file of weights, found {'a folder' if file.is_dir() else 'none'}")
    if arch is None and saved_in(str(file)) is None and not is_torchscript(str(file)):
        raise ModelError(f"{file}: holds tensors alone: expected --arch NAME beside it, such as --arch efficientnet_b0")
    return {"weights": str(file.resolve()), **named}


def _label_of(file: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-_")[:LONGEST_NAME] or "model"


def _resolution_in(file: Path) -> int:
    """Returns the side length of the images that a file is for, as far as it says so."""
    if is_onnx(file.name):
        return resolution_in(str(file)) or RESOLUTION
    saved = saved_in(str(file))
    return saved.resolution if saved else RESOLUTION


def _resize_in(file: Path) -> dict[str, str]:
    """Returns how images become square, where the file says so."""
    saved = metadata_in(str(file)) if is_onnx(file.name) else saved_in(str(file))
    return {} if saved is None or saved.resize is None else {"resize": saved.resize}
