"""What files of finished models say of themselves: which architecture, which classes, which size of images."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ModelError, naming
from harness.models.base import Architecture
from harness.models.scripted import TorchScript, is_torchscript

if TYPE_CHECKING:
    from harness.models.h5 import SavedClassifier

NAMING = ".h5"
"""Ending of the files that name their architecture, classes and size of images."""


def with_weights(
    architecture: Architecture | None, weights: str, *, own: bool, where: str, field: str = "weights"
) -> Architecture:
    """Returns the architecture that a finished model's file is loaded into, with that file.

    Args:
        architecture: The one that is named, if any.
        weights: The file.
        own: Whether it is named for this model alone; else a TorchScript file takes its place.
        where: Path of the model in the suite, for messages.
        field: The field that names the file.

    Raises:
        ValueError: if none is named, and the file has none in it; begins with the field's path.
    """
    if not own and is_torchscript(weights):
        return TorchScript(weights=weights)
    if architecture is not None:
        return architecture.without_weights().model_copy(update={"weights": weights})
    if not Path(weights).expanduser().is_file():
        raise ValueError(f"{where}.{field}: {weights}: expected a file of weights, found none")
    if Path(weights).suffix != NAMING:
        raise ValueError(f"{where}.architecture: required, as {weights} holds tensors alone; a TorchScript file needs none")
    try:
        return _named_in(weights)
    except ModelError as error:
        raise ValueError(f"{where}.{field}: {error}") from error


def classes_in(weights: str) -> tuple[str, ...] | None:
    """Returns the classes that a file of weights names, in the order of its logits; None if it names none.

    Raises:
        ModelError: if the file is damaged.
    """
    saved = saved_in(weights)
    return None if saved is None else saved.class_names


def saved_in(weights: str) -> SavedClassifier | None:
    """Returns what a .h5 file holds; None of other files, which hold tensors alone, and where there is none.

    Raises:
        ModelError: if the file is damaged.
    """
    path = Path(weights).expanduser()
    if path.suffix != NAMING or not path.is_file():
        return None
    state = path.stat()
    with naming("weights: ", ModelError):
        return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, _written: int, _size: int) -> SavedClassifier:
    from harness.models.h5 import read_h5

    return read_h5(path)


def _named_in(weights: str) -> Architecture:
    from harness.models.timm import timm_architecture

    saved = saved_in(weights)
    if saved is None:
        raise ModelError(f"{weights}: expected a file that names its architecture, found another one")
    return timm_architecture(saved, Path(weights)).model_copy(update={"weights": weights, "mean": None, "std": None})
