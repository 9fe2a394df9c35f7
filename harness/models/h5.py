"""A trained classifier in one HDF5 file: weights, architecture, class names, preprocessing, training summary.

Layout, schema version 1:

    /                  attributes schema_version, arch, resolution, resize, mean (3,), std (3,), summary (JSON);
                       builder and arguments (JSON) if they are known
    /class_names       (K,) fixed-length UTF-8
    /weights/<name>    one data set a tensor, under the backbone's own names
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.bundle.heaps import expect_finite_heaps
from harness.errors import ModelError
from harness.models.classifier import Classifier
from harness.models.state import replacing, state_of
from harness.spec import canonical_json

SCHEMA_VERSION = 1
"""Version of the layout above; a reader refuses any other."""
LARGEST_RATIO = 1032
"""What deflate reaches at best: a data set that declares more than that of what is stored was never written whole."""
MOST_PIXELS = 1024
"""Largest side length, that of data sets."""
DAMAGE = (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, MemoryError)
"""What h5py raises on a missing, damaged or foreign file, and what reading its values does."""
RESIZE = "squash"
"""How an image becomes square by default: the whole image, bilinear and antialiased."""


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
    """The summary of the training."""
    weights: Mapping[str, Tensor]
    """Name in the backbone -> tensor."""
    builder: str | None = None
    """The model plug-in that builds the architecture, "timm" or "factory"; None if the file does not name it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments besides its name and the number of classes."""


def save_h5(
    classifier: Classifier,
    path: Path,
    *,
    arch: str,
    resolution: int,
    summary: Mapping[str, Any],
    resize: str = RESIZE,
    builder: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Writes a classifier; the file is replaced by one rename.

    Args:
        classifier: The classifier.
        path: The file.
        arch: The architecture's name.
        resolution: Side length of its images in pixels.
        summary: The summary of the training, in plain JSON values.
        resize: How an image becomes square.
        builder: The model plug-in that builds the architecture; None leaves it out of the file.
        arguments: The plug-in's arguments besides its name and the number of classes, in plain JSON values.

    Raises:
        ModelError: if the arguments are not plain JSON values: the file would describe another network.
    """
    construction = {} if builder is None else {"builder": builder}
    if arguments:
        construction["arguments"] = _as_json(arguments)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(
            schema_version=SCHEMA_VERSION,
            arch=arch,
            resolution=resolution,
            resize=resize,
            mean=classifier.mean.flatten().cpu().numpy(),
            std=classifier.std.flatten().cpu().numpy(),
            summary=canonical_json(dict(summary)),
            **construction,
        )
        file["class_names"] = np.char.encode(np.array(classifier.class_names), "utf-8")
        for name, tensor in state_of(classifier.backbone).items():
            checked = tensor.dim() > 0 and tensor.numel() > 0  # HDF5 has checksums for chunks only, and scalars have none
            file.create_dataset(f"weights/{name}", data=tensor.numpy(), fletcher32=checked or None)


def _as_json(arguments: Mapping[str, Any]) -> str:
    """Returns arguments as JSON that reads back as the same values; a tuple, which would come back as a list, is refused."""
    try:
        text = canonical_json(dict(arguments))
    except (TypeError, ValueError) as error:
        raise ModelError(f"arguments: expected plain JSON values, which a .h5 file can hold; {error}") from error
    changed = [name for name, value in json.loads(text).items() if name not in arguments or value != arguments[name]]
    if changed:
        raise ModelError(f"arguments.{changed[0]}: expected plain JSON values, which a .h5 file can hold, got {arguments!r:.80}")
    return text


def read_h5(path: Path) -> SavedClassifier:
    """Returns the content of a file.

    Raises:
        ModelError: if the file is missing, damaged or of another layout.
    """
    try:
        expect_finite_heaps(path)
        with h5py.File(path, "r") as file:
            return _content(file)
    except DAMAGE as error:
        raise ModelError(f"{path}: expected a classifier in HDF5, schema version {SCHEMA_VERSION}, found {error}") from error


def _content(file: h5py.File) -> SavedClassifier:
    attributes = file.attrs
    if (version := int(attributes["schema_version"])) != SCHEMA_VERSION:
        raise ValueError(f"schema version {version}")
    if not 1 <= (resolution := int(attributes["resolution"])) <= MOST_PIXELS:
        raise ValueError(f"a resolution of {resolution}, not 1 to {MOST_PIXELS}")
    return SavedClassifier(
        arch=str(attributes["arch"]),
        class_names=_texts(_values(_own(file, "class_names"))),
        mean=_channels(attributes["mean"]),
        std=_channels(attributes["std"]),
        resolution=resolution,
        resize=str(attributes["resize"]),
        summary=json.loads(attributes["summary"]),
        weights=_tensors(_own(file, "weights")),
        builder=str(attributes["builder"]) if "builder" in attributes else None,
        arguments=dict(json.loads(attributes.get("arguments", "{}"))),
    )


def _texts(names: NDArray[Any]) -> tuple[str, ...]:
    if names.dtype.kind not in "SO":
        raise ValueError(f"class names of type {names.dtype}")
    return tuple(bytes(name).decode() for name in names)


def _channels(values: NDArray[np.float32]) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    if not np.isfinite(values).all():
        raise ValueError(f"a mean or std of {values.tolist()}")
    return red, green, blue


def _own(file: h5py.File, name: str) -> h5py.Group | h5py.Dataset:
    """Returns the group or data set of a name in a file, and refuses a link."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"no {name} of its own")
    return file[name]


def _values(item: h5py.Dataset) -> NDArray[Any]:
    """Returns the content of a data set in the machine's byte order.

    Not if it is in another file, which could be any that this process may read, or was never written.
    """
    if item.external or item.is_virtual:
        raise ValueError(f"{item.name.removeprefix('/')} in another file")
    stored = item.id.get_storage_size()
    if item.size is not None and item.nbytes > LARGEST_RATIO * stored:
        raise ValueError(f"{item.name.removeprefix('/')} of shape {item.shape}, of which {stored} bytes are stored")
    values = np.asarray(item[()])
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _tensors(group: h5py.Group) -> dict[str, Tensor]:
    """Returns the data sets below a group by name; links are not followed."""
    tensors: dict[str, Tensor] = {}

    def read(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            tensors[name] = torch.from_numpy(_values(item))

    group.visititems(read)
    if not tensors:
        raise ValueError("no weights")
    return tensors
