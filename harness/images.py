"""What a data set is here: splits of streamed RGB images with labels, class names and a content hash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

SPLITS = ("train", "validation", "test")


class ImageSplit(Protocol):
    """One split: random access to images that are decoded when asked for, so memory stays flat."""

    labels: NDArray[np.int64]
    """Class index of every example, shape (N,)."""
    ids: Sequence[str]
    """A readable, unique name of every example: a relative path or "digits/0007"."""
    hashes: Sequence[str]
    """sha256 of every example's content (the encoded file, or the raw pixels), as hexadecimal digits."""

    def __len__(self) -> int:
        """Returns the number of examples N."""
        ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns one image, float32 (3, resolution, resolution) in [0,1], and its class index."""
        ...


@runtime_checkable
class DetailedSplit(Protocol):
    """A split whose sources may hold more detail than its resolution shows."""

    def read_detailed(self, index: int, side: int) -> Tensor:
        """Returns one image as `ImageSplit` gives it, but up to `side` pixels wide and high where there is more detail."""
        ...


def read_detailed(split: ImageSplit, index: int, side: int) -> Tensor:
    """Returns one image of a split, up to `side` pixels wide and high where its source has more detail than it gives."""
    return split.read_detailed(index, side) if isinstance(split, DetailedSplit) else split[index][0]


class View:
    """Some examples of a split, in a given order, without copying an image.

    Args:
        split: The split that is looked at.
        indices: Positions in `split`, shape (M,).
    """

    def __init__(self, split: ImageSplit, indices: NDArray[np.int64]) -> None:
        """See the class."""
        self.split = split
        self.indices = indices
        self.labels: NDArray[np.int64] = split.labels[indices]
        self.ids: Sequence[str] = [split.ids[index] for index in indices]
        self.hashes: Sequence[str] = [split.hashes[index] for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """See `ImageSplit`."""
        return self.split[int(self.indices[index])]

    def read_detailed(self, index: int, side: int) -> Tensor:
        """See `DetailedSplit`."""
        return read_detailed(self.split, int(self.indices[index]), side)


@dataclass(frozen=True)
class ImageData:
    """A loaded data set."""

    name: str
    class_names: tuple[str, ...]
    splits: Mapping[str, ImageSplit]
    """The splits "train", "validation" and "test"."""
    content_hash: str
    """sha256 over class names, and ids, labels and hashes of every split: changes when any image changes."""
    cross_split_duplicates: int
    """Number of validation and test examples whose content also occurs in another split before them."""
