"""Splits that change some images or labels of another split when they are read, without copying the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.images import ImageSplit, View, read_detailed
from harness.poisoning.stamp import Stamp
from harness.spec import digest_of
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def images_at(split: ImageSplit, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns the images of some examples, (n, 3, R, R); for few examples, as it holds them in memory."""
    return torch.stack([split[int(index)][0] for index in indices]).numpy()


class Overlay:
    """A training split in which some examples are replaced.

    Its image is the crafted one if there is one, else the original one; a stamp is applied if there is one. Only crafted
    images are held in memory.

    Args:
        split: The clean split.
        indices: Positions of the replaced examples (n,).
        labels: Their new class indices (n,).
        hashes: sha256 of their new content.
        images: Crafted images (n, 3, R, R), float32 in [0,1], or None.
        stamp: Their trigger, or None.
    """

    def __init__(
        self,
        split: ImageSplit,
        indices: NDArray[np.int64],
        *,
        labels: NDArray[np.int64],
        hashes: Sequence[str],
        images: Tensor | None = None,
        stamp: Stamp | None = None,
    ) -> None:
        """See the class."""
        self._split, self._images, self._stamp = split, images, stamp
        self._positions = {int(index): position for position, index in enumerate(indices)}
        self.ids: Sequence[str] = split.ids
        self.labels = split.labels.copy()
        self.labels[indices] = labels
        self.hashes: Sequence[str] = list(split.hashes)
        for index, content in zip(indices, hashes, strict=True):
            self.hashes[index] = content

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns one image (3, R, R) and its class index, poisoned or not."""
        index = range(len(self))[index]
        position = self._positions.get(index)
        if position is None:
            return self._split[index]
        image = self._split[index][0] if self._images is None else self._images[position]
        return (image if self._stamp is None else self._stamp(image)), int(self.labels[index])

    def read_detailed(self, index: int, side: int) -> Tensor:
        """See `DetailedSplit`; a replaced example has no more detail than its own image."""
        index = range(len(self))[index]
        return self[index][0] if index in self._positions else read_detailed(self._split, index, side)


class Selection(View):
    """Some examples of a split, in a given order, each stamped with a trigger if there is one.

    Args:
        split: The split that holds the examples.
        indices: Positions in `split` (M,).
        stamp: The trigger of every example, or None.
    """

    def __init__(self, split: ImageSplit, indices: NDArray[np.int64], *, stamp: Stamp | None = None) -> None:
        """See the class."""
        super().__init__(split, indices)
        self._stamp = stamp
        self.hashes = [_stamped_hash(content, stamp) for content in self.hashes]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns one image (3, R, R), stamped, and its class index."""
        image, label = super().__getitem__(index)
        return (image if self._stamp is None else self._stamp(image)), label

    def read_detailed(self, index: int, side: int) -> Tensor:
        """See `DetailedSplit`; a stamped example has no more detail than its own image."""
        return super().read_detailed(index, side) if self._stamp is None else self[index][0]


def _stamped_hash(content: str, stamp: Stamp | None) -> str:
    """Returns the hash of an image with a stamp; the content's own hash without one."""
    return content if stamp is None else digest_of([content, stamp.sha256])
