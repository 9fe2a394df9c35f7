"""Fashion-MNIST and CIFAR-10: torchvision's downloads, or the files of Debian's package if it is installed."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.datasets.base import DATASETS, expand_path, naming_root, readable
from harness.datasets.build import image_data
from harness.datasets.cache import cache_folder
from harness.datasets.shares import DrawsValidation, completed
from harness.datasets.tensors import TensorSplit
from harness.errors import DataError
from harness.images import ImageData, ImageSplit
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package dataset-fashion-mnist."""


class Part(NamedTuple):
    """The training or the test images of a source."""

    images: Tensor
    """uint8 (N, 3, H, W)."""
    labels: NDArray[np.int64]
    """Class indices (N,)."""


class SmallImages(DrawsValidation, ABC):
    """Base of the data sets that fit into memory and have a training and a test part."""

    PATH_FIELDS: ClassVar[frozenset[str]] = frozenset({"root"})
    CLASS_NAMES: ClassVar[tuple[str, ...]]
    """One name a class index."""

    resolution: int = Field(default=32, ge=8, le=1024)
    """Side length of the images in pixels."""
    root: str | None = None
    """The folder of the data; by default a folder in the user's cache, to which torchvision downloads."""

    @abstractmethod
    def parts(self) -> tuple[Part, Part]:
        """Returns the training and the test part.

        Raises:
            DataError: if they are missing, damaged or cannot be downloaded.
        """

    def look(self) -> tuple[str, ...]:
        """See `Dataset.look`."""
        return self.CLASS_NAMES

    def load(self) -> ImageData:
        """See `Dataset.load`; the validation split is drawn from the training part."""
        splits: dict[str, ImageSplit] = {
            name: TensorSplit(
                part.images,
                part.labels,
                ids=[f"{name}/{index:05d}" for index in range(len(part.labels))],
                resolution=self.resolution,
            )
            for name, part in zip(("train", "test"), self._parts_of_root(), strict=True)
        }
        return image_data(self.name, self.CLASS_NAMES, completed(splits, [("validation", self.validation)], self.seed))

    def _parts_of_root(self) -> tuple[Part, Part]:
        if self.root is None:
            return self.parts()
        with naming_root(), readable(Path(self.root)):
            return self.parts()

    def folder(self) -> Path:
        """Returns the folder in which torchvision keeps the data."""
        return cache_folder() / "torchvision" if self.root is None else expand_path(self.root)


@DATASETS.register
class FashionMNIST(SmallImages):
    """Zalando's 70,000 articles of clothing, 28 x 28 pixels, grey, 10 classes.

    Source: Xiao et al. 2017, https://arxiv.org/abs/1708.07747.
    """

    CLASS_NAMES: ClassVar[tuple[str, ...]] = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )

    name: Literal["fashion_mnist"] = "fashion_mnist"

    def parts(self) -> tuple[Part, Part]:
        """Returns both parts, from idx files in `root` or in the Debian package, else through torchvision."""
        given = DEBIAN_FOLDER if self.root is None else self.folder()
        if (given / "train-images-idx3-ubyte.gz").is_file():
            return read_idx_part(given, "train"), read_idx_part(given, "t10k")
        train, test = through_torchvision("FashionMNIST", self.folder(), f"install dataset-fashion-mnist ({DEBIAN_FOLDER})")
        return _grey(train.data, train.targets.numpy()), _grey(test.data, test.targets.numpy())


@DATASETS.register
class CIFAR10(SmallImages):
    """60,000 photographs of 32 x 32 pixels, 10 classes.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """

    CLASS_NAMES: ClassVar[tuple[str, ...]] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )

    name: Literal["cifar10"] = "cifar10"

    def parts(self) -> tuple[Part, Part]:
        """Returns both parts through torchvision."""
        train, test = through_torchvision("CIFAR10", self.folder(), "get cifar-10-python.tar.gz by other means")
        return _coloured(train), _coloured(test)


def read_idx_part(folder: Path, prefix: str) -> Part:
    """Returns the part in the gzipped idx files `<prefix>-images-idx3-ubyte.gz` and `<prefix>-labels-idx1-ubyte.gz`.

    Raises:
        DataError: if one is missing or damaged, or their lengths differ.
    """
    images = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1)
    if len(images) != len(labels):
        raise DataError(f"{folder}: expected as many {prefix} images as labels, got {len(images)} and {len(labels)}")
    return _grey(torch.from_numpy(images), labels)


def _read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Returns the values of one idx file of bytes: a magic number 0x08 and the count of dimensions, their sizes, the values."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: expected a gzipped idx file, got: {error}") from error
    head, values = data[: 4 + 4 * dimensions], data[4 + 4 * dimensions :]
    shape = struct.unpack(f">{dimensions}i", head[4:]) if head[:4] == bytes((0, 0, 8, dimensions)) else (-1,)
    if len(values) != math.prod(shape):
        raise DataError(f"{path}: expected an idx file of bytes in {dimensions} dimensions, got another or a truncated one")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape).copy()


def through_torchvision(name: str, folder: Path, otherwise: str) -> tuple[Any, Any]:
    """Returns torchvision's training and test part, downloaded to `folder` if it does not have them.

    Args:
        name: The class in torchvision.datasets.
        folder: Where torchvision keeps its data sets.
        otherwise: What the user can do instead, for the error message.

    Raises:
        DataError: if they cannot be downloaded or read.
    """
    from torchvision import datasets

    source = getattr(datasets, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return source(folder, train=True, download=True), source(folder, train=False, download=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name}: expected torchvision's files in {folder}, and downloading them failed ({reason:.200}). "
            f"Go online, or {otherwise} and name the folder: --set dataset.root=..."
        ) from error


def _grey(images: Tensor, labels: NDArray[np.integer[Any]]) -> Part:
    return Part(images[:, None].expand(-1, 3, -1, -1), labels.astype(np.int64))


def _coloured(source: Any) -> Part:
    return Part(torch.from_numpy(source.data).permute(0, 3, 1, 2), np.asarray(source.targets, dtype=np.int64))
