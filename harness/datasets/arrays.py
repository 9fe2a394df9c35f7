"""Images in memory as an array: known without PyTorch, and tensors when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.datasets.decoding import resized
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class ArraySplit:
    """A split over one array of images that need no check, as they come from a data set of the harness.

    Args:
        images: uint8, or float32 in [0,1], shape (N, 3, H, W).
        labels: Class indices (N,).
        ids: A name of every example.
        resolution: Side length of the returned images.
    """

    def __init__(self, images: NDArray[np.generic], labels: NDArray[np.int64], *, ids: Sequence[str], resolution: int) -> None:
        """See the class."""
        self.images, self.labels, self.ids, self.resolution = images, labels, ids, resolution
        self.hashes: Sequence[str] = [array_hash(image) for image in images]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """See `ImageSplit`."""
        return resized(torch.from_numpy(self.images[index].copy()), self.resolution), int(self.labels[index])


def array_hash(image: NDArray[np.generic]) -> str:
    """Returns the sha256 of an image's type, shape and pixels."""
    return sha256(f"{image.dtype} {image.shape} ".encode() + image.tobytes()).hexdigest()
