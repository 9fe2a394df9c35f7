"""A trained classifier in one HDF5 file: weights, architecture, class names, preprocessing, training summary.

Layout, schema version 1:

    /                  attributes schema_version, arch, resolution, resize, mean (3,), std (3,), summary (JSON)
    /class_names       (K,) fixed-length UTF-8
    /weights/<name>    one data set a tensor, under the backbone's own names
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import ModelError
from harness.models.classifier import Classifier
from harness.models.state import replacing, state_of
from harness.spec import canonical_json

SCHEMA_VERSION = 1
"""Version of the layout above; a reader refuses any other."""
RESIZE = "squash"
"""How an image becomes square where nothing else is said: the whole image, bilinear and antialiased."""


@dataclass(frozen=True)
class SavedClassifier:
    """The content of a file."""

    arch: str
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resolution: int
    """Side length of the images in pixels."""
    resize: str
    """How an image becomes square; always bilinear and antialiased."""
    summary: Mapping[str, Any]
    """What the training said of itself."""
    weights: Mapping[str, Tensor]
    """Name in the backbone -> tensor."""


def save_h5(
    classifier: Classifier, path: Path, *, arch: str, resolution: int, summary: Mapping[str, Any], resize: str = RESIZE
) -> None:
    """Writes a classifier in one move.

    Args:
        classifier: The classifier.
        path: The file.
        arch: The architecture's name.
        resolution: Side length of its images in pixels.
        summary: What the training said of itself, in plain JSON values.
        resize: How an image becomes square.
    """
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(
            schema_version=SCHEMA_VERSION,
            arch=arch,
            resolution=resolution,
            resize=resize,
            mean=classifier.mean.flatten().cpu().numpy(),
            std=classifier.std.flatten().cpu().numpy(),
            summary=canonical_json(dict(summary)),
        )
        file["class_names"] = np.char.encode(np.array(classifier.class_names), "utf-8")
        for name, tensor in state_of(classifier.backbone).items():
            file[f"weights/{name}"] = tensor.numpy()


def read_h5(path: Path) -> SavedClassifier:
    """Reads the content of a file.

    Raises:
        ModelError: if the file is missing, damaged or of another layout.
    """
    try:
        with h5py.File(path, "r") as file:
            return _content(file)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelError(f"{path}: expected a classifier in HDF5, schema version {SCHEMA_VERSION}, found {error}") from error


def _content(file: h5py.File) -> SavedClassifier:
    attributes = file.attrs
    if (version := int(attributes["schema_version"])) != SCHEMA_VERSION:
        raise ValueError(f"schema version {version}")
    return SavedClassifier(
        arch=str(attributes["arch"]),
        class_names=tuple(bytes(name).decode() for name in file["class_names"][:]),
        mean=_channels(attributes["mean"]),
        std=_channels(attributes["std"]),
        resolution=int(attributes["resolution"]),
        resize=str(attributes["resize"]),
        summary=json.loads(attributes["summary"]),
        weights=_tensors(file["weights"]),
    )


def _channels(values: NDArray[np.float32]) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue


def _tensors(group: h5py.Group) -> dict[str, Tensor]:
    """Reads the data sets below a group; links into other files are not followed."""
    tensors: dict[str, Tensor] = {}

    def read(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external:
                raise ValueError(f"weights/{name} in another file")
            tensors[name] = torch.from_numpy(np.asarray(item[()]))

    group.visititems(read)
    if not tensors:
        raise ValueError("no weights")
    return tensors
