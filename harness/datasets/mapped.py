"""A map-style torch data set as a split: read once for labels and hashes, and again image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pixels import as_pair, check_images, checked_labels, numbered, pixel_hash, unit_range
from harness.datasets.verified import FirstReads, read_twice
from harness.errors import DataError, naming, only_harness_errors

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset


Collate = Callable[[list[Any]], Any]


class MappedSplit:
    """A map-style data set, read image by image.

    Args:
        dataset: Gives (image, label) by position.
        indices: The positions of the split's examples.
        collate: Turns a list of examples into a batch.

    Raises:
        DataError: if an example cannot be read, is not (image, label), has values outside [0,1] or another size than the first
            one, or changes when it is read again, now or later.
    """

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int], collate: Collate) -> None:
        """See the class."""
        if not len(indices):
            raise DataError("data: expected at least one example, got none")
        self.dataset = dataset
        self.indices = indices
        self.collate = collate
        self._first = FirstReads(len(indices))
        found = [self._read(position) for position in range(len(indices))]
        self.labels: NDArray[np.int64] = np.array([label for label, _ in found], dtype=np.int64)
        self.hashes: Sequence[str] = [content for _, content in found]
        self.ids: Sequence[str] = numbered(len(indices))
        read_twice(self)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self._example(index)
        if label != self.labels[index]:
            raise DataError(f"data[{index}]: expected its label to be {self.labels[index]} whenever it is read, got {label}")
        return unit_range(image), label

    def _read(self, index: int) -> tuple[int, str]:
        image, label = self._example(index)
        return label, pixel_hash(image)

    def _example(self, index: int) -> tuple[Tensor, int]:
        """Returns an image (C, H, W) of the data set and its label; checked when first read, compared when read again."""
        place = f"data[{index}]"
        with only_harness_errors(DataError, f"{place}: reading it"):
            example = self.dataset[self.indices[index]]
        try:
            batch = self.collate([example])
        except Exception as error:  # a caller's function
            raise DataError(f"{place}: expected an image tensor and a label: {' '.join(str(error).split()):.200}") from error
        images, labels = as_pair(batch, place)
        with naming(f"{place}: ", DataError):
            label = int(checked_labels(labels, count=1)[0])
            if not self._first.knows(index):
                check_images(images)
        self._first.compare(index, images[0], place=place)
        return images[0], label
