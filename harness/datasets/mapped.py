"""A map-style torch data set as a split: read once for labels and hashes, then image by image."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from harness.datasets.pixels import as_pair, check_images, checked_labels, numbered, pixel_hash, unit_range
from harness.errors import DataError

Collate = Callable[[list[Any]], Any]


class MappedSplit:
    """A map-style data set, read image by image.

    Args:
        dataset: Gives (image, label) by position.
        indices: The positions that make the split.
        collate: Turns a list of examples into a batch.

    Raises:
        DataError: if an example is no (image, label), lies outside [0,1], or changes when it is read again.
    """

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int], collate: Collate) -> None:
        """See the class."""
        if not len(indices):
            raise DataError("data: expected at least one example, got none")
        self.dataset = dataset
        self.indices = indices
        self.collate = collate
        found = [self._read(position) for position in range(len(indices))]
        self.labels: NDArray[np.int64] = np.array([label for label, _ in found], dtype=np.int64)
        self.hashes: Sequence[str] = [content for _, content in found]
        self.ids: Sequence[str] = numbered(len(indices))
        if self._read(0) != found[0]:
            raise DataError("data: expected the same image whenever an example is read, got another; turn augmentation off")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, _ = self._example(index)
        return unit_range(images[0]), int(self.labels[index])

    def _read(self, index: int) -> tuple[int, str]:
        images, labels = self._example(index)
        check_images(images)
        return int(checked_labels(labels, count=1)[0]), pixel_hash(images[0])

    def _example(self, index: int) -> tuple[Tensor, Tensor]:
        try:
            batch = self.collate([self.dataset[self.indices[index]]])
        except TypeError as error:
            raise DataError(
                f"data[{index}]: expected an image tensor and a label: {' '.join(str(error).split()):.200}"
            ) from error
        return as_pair(batch, f"data[{index}]")
