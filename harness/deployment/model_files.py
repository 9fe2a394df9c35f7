"""Files of a suite's trained models; nothing is trained here."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.deployment.selection import model_files, resize_of
from harness.errors import ModelError, StepFailed
from harness.models.h5 import save_h5
from harness.models.state import replacing
from harness.models.weights import save_pth, save_safetensors
from harness.running.workspace import DEFAULT_RESULTS, Workbench, open_workbench
from harness.steps.export import ModelFile
from harness.steps.poison import TrainedModel
from harness.steps.train import Train
from harness.suites.suite import Suite
from harness.system.progress import Progress

MODELS_FOLDER = "models"
"""Folder of the files below the results folder, unless another place is named."""


def export(
    suite: Suite,
    model: str,
    file_format: str,
    *,
    out: Path | None = None,
    store: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes one file of a trained model and returns its path.

    Args:
        suite: The suite, from `load_suite`.
        model: The model's name: its label, or "label@poison@rate".
        file_format: pth, h5, safetensors, onnx, deploy, int8 or fp16.
        out: The file, by default results/<suite>/models/<model>.<ending>; replaced if it exists.
        store: Folder of the finished steps, by default results/.store.
        progress: Where to show progress, by default nowhere.

    Returns:
        The path of the file.

    Raises:
        SuiteError: if there is no such model.
        ModelError: if the format is unknown, the model is not trained yet, or the file cannot be written.
        StepFailed: if the model cannot be exported, or the file does not compute what PyTorch computes.
    """
    if file_format not in ENDINGS:
        raise ModelError(f"format: expected one of {', '.join(ENDINGS)}, got {file_format!r}")
    variant = suite.variant(model)
    bench = open_workbench(suite, store=store, progress=progress)
    model_step = bench.training(variant)
    path = out or DEFAULT_RESULTS / suite.name / MODELS_FOLDER / f"{variant.name}{ENDINGS[file_format]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if file_format in WEIGHTS:
            WEIGHTS[file_format](bench, _trained(model_step), path)
        else:
            _finish_and_copy(bench, model_files(bench.plan, variant)[file_format], path)
    except OSError as error:
        raise ModelError(f"{path}: the file cannot be written: {error.strerror or error}") from error
    return path


def _trained(step: TrainedModel) -> Train:
    """Returns the training of a model.

    Raises:
        ModelError: if it was given.
    """
    if not isinstance(step, Train):
        own = step.architecture.weights or step.architecture.arch
        raise ModelError(f"format: expected an ONNX format, as {step.label} is a finished model, whose weights are {own}")
    return step


def _finish_and_copy(bench: Workbench, step: ModelFile, path: Path) -> None:
    if failures := bench.finish(step):
        raise StepFailed(failures[0])
    with replacing(path) as temporary:
        shutil.copyfile(step.file(bench.context), temporary)


def _pth(bench: Workbench, train: Train, path: Path) -> None:
    save_pth(train.classifier(bench.context), path)


def _safetensors(bench: Workbench, train: Train, path: Path) -> None:
    save_safetensors(train.classifier(bench.context), path)


def _h5(bench: Workbench, train: Train, path: Path) -> None:
    save_h5(
        train.classifier(bench.context),
        path,
        arch=train.architecture.arch,
        resolution=train.resolution,
        summary=train.summary(bench.context),
        resize=resize_of(bench.plan.suite),
        builder=train.architecture.name,
        arguments=getattr(train.architecture, "arguments", None),
    )


WEIGHTS: Mapping[str, Callable[[Workbench, Train, Path], None]] = {"pth": _pth, "h5": _h5, "safetensors": _safetensors}
ENDINGS: Mapping[str, str] = {
    **{name: f".{name}" for name in WEIGHTS},
    "onnx": ".onnx",
    "deploy": ".deploy.onnx",
    "int8": ".int8.onnx",
    "fp16": ".fp16.onnx",
}
"""Format -> ending of the file."""
