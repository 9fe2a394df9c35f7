"""Splits that check that their images are the same at each reading, so that all conditions use the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pixels import check_images, checked_labels, fingerprint, size_of, unit_range
from harness.datasets.splits import Drawn
from harness.errors import DataError, only_harness_errors
from harness.images import ImageData, ImageSplit, read_detailed, reads_files

if TYPE_CHECKING:
    from torch import Tensor


READ_TWICE = 8
"""Number of examples, evenly spaced in a split, that are read twice before anything is computed; later, each example that is read
again is compared."""
UNKNOWN = -1
TRAIN = "train"


class FirstReads:
    """The fingerprints of a split's images when they were first read, and their common size.

    A fingerprint takes about 1 % of the time of reading a photograph.

    Args:
        count: The number of examples N.
    """

    def __init__(self, count: int) -> None:
        """See the class."""
        self._prints = np.full(count, UNKNOWN, dtype=np.int64)
        self._size = ""

    def knows(self, index: int) -> bool:
        """Whether an example was read before."""
        return bool(self._prints[index] != UNKNOWN)

    def compare(self, index: int, image: Tensor, *, place: str) -> None:
        """Records an image (C, H, W) at its first reading, and compares it at later ones.

        Args:
            index: The example's position.
            image: The image, as read.
            place: Begins the error messages.

        Raises:
            DataError: if it is not the same image as before, or has another size than the split's first one.
        """
        size, found = size_of(image), fingerprint(image)
        self._size = self._size or size
        if size != self._size:
            raise DataError(f"{place}: expected images of one size, {self._size} as the first one, got {size}; resize them")
        if self.knows(index) and self._prints[index] != found:
            raise DataError(
                f"{place}: expected the same image whenever an example is read, got another: each condition would be judged on "
                "images of its own; turn augmentation off"
            )
        self._prints[index] = found


class VerifiedSplit:
    """A caller's split; each image is checked at its first reading and compared at later ones.

    Args:
        split: The split.
        name: Its name in error messages.

    Raises:
        DataError: if it is empty, or its labels, ids and hashes do not fit it.
    """

    def __init__(self, split: ImageSplit, name: str = "data") -> None:
        """See the class."""
        with only_harness_errors(DataError, f"{name}: reading its labels, ids and hashes"):
            count = len(split)
            if not count:
                raise DataError(f"{name}: expected at least one example, got none")
            self.labels: NDArray[np.int64] = checked_labels(split.labels, count=count)
            self.ids: Sequence[str] = split.ids
            self.hashes: Sequence[str] = split.hashes
            if (sizes := (len(self.ids), len(self.hashes))) != (count, count):
                raise DataError(f"{name}: expected {count} ids and hashes for {count} images, got {sizes[0]} and {sizes[1]}")
        self._split, self._name = split, name
        self.reads_files = reads_files(split)
        self.from_training = isinstance(split, Drawn)
        self._first = FirstReads(count)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        index, place = int(index), f"{self._name}[{index}] ({self.ids[index]})"
        with only_harness_errors(DataError, f"{place}: reading it"):
            image, label = self._split[index]
            image = image.detach()
            if not self._first.knows(index):
                check_images(image[None])
        if label != self.labels[index]:
            raise DataError(f"{place}: expected its label to be {self.labels[index]} whenever it is read, got {label}")
        self._first.compare(index, image, place=place)
        return unit_range(image), int(label)

    def read_detailed(self, index: int, side: int) -> Tensor:
        """See `DetailedSplit`."""
        return read_detailed(self._split, index, side)


def read_twice(split: ImageSplit) -> None:
    """Reads a few examples of a split twice; the split itself compares them.

    Raises:
        DataError: if an example has changed.
    """
    chosen = np.unique(np.linspace(0, len(split) - 1, min(READ_TWICE, len(split))).round().astype(int))
    for index in [*chosen, *chosen]:  # not twice in a row: a data set may cache its last example
        split[int(index)]


def verified(split: ImageSplit, name: str = "data") -> VerifiedSplit:
    """Returns a split that compares its images; a few of them are read twice now.

    Raises:
        DataError: if one of them has changed, or the split is not valid.
    """
    checked = VerifiedSplit(split, name)
    read_twice(checked)
    return checked


def verified_for_evaluation(data: ImageData) -> ImageData:
    """Returns a data set whose validation and test images are compared when they are read again; a few are read twice now.

    Raises:
        DataError: as `verified`.
    """
    compared = compared_for_evaluation(data)
    read_evaluation_twice(compared)
    return compared


def compared_for_evaluation(data: ImageData) -> ImageData:
    """Returns a data set whose validation and test images are compared when they are read again; none is read now.

    Raises:
        DataError: if labels, ids and hashes of a split do not fit it.
    """
    splits = {name: split if name == TRAIN else VerifiedSplit(split, name) for name, split in data.splits.items()}
    return replace(data, splits=splits)


def read_evaluation_twice(data: ImageData) -> None:
    """Reads a few validation and test images twice; see `read_twice`."""
    for name, split in data.splits.items():
        if name != TRAIN:
            read_twice(split)
