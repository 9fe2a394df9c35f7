"""A caller's images as a split: tensors in memory, torch data sets, data loaders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.datasets.decoding import resized
from harness.datasets.mapped import MappedSplit
from harness.datasets.pixels import as_pair, check_images, checked_labels, numbered, pixel_hash, size_of, unit_range
from harness.datasets.verified import verified
from harness.errors import DataError, only_harness_errors
from harness.images import ImageSplit
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader


class TensorSplit:
    """A split over one tensor of images.

    Args:
        images: uint8, or floating point in [0,1], shape (N, C, H, W).
        labels: Class indices (N,).
        ids: A name of every example; by default its number.
        resolution: Side length of the returned images; by default as stored.

    Raises:
        DataError: if shapes, types or values are not as expected.
    """

    def __init__(
        self,
        images: Tensor,
        labels: ArrayLike | Tensor,
        *,
        ids: Sequence[str] | None = None,
        resolution: int | None = None,
    ) -> None:
        """See the class."""
        check_images(images)
        self.images = images.detach()
        self.labels: NDArray[np.int64] = checked_labels(labels, count=len(images))
        self.ids: Sequence[str] = numbered(len(images)) if ids is None else ids
        self.hashes: Sequence[str] = [pixel_hash(image) for image in images]
        self.resolution = resolution

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if self.resolution is not None:
            return resized(image, self.resolution), int(self.labels[index])
        return unit_range(image), int(self.labels[index])


def split_of(data: object) -> ImageSplit:
    """Returns any common form of labelled images as a split.

    A map-style data set is read once for its labels and hashes and again image by image, so memory does not grow with it. A data
    set that can only be iterated is kept in memory, and iterated once more to check that its images do not change. Images that
    may change between readings are compared at each reading.

    Args:
        data: An `ImageSplit`; a pair (images, labels) of tensors or arrays; a torch Dataset of (image, label); or a
            DataLoader over one, whose sampler chooses the examples and whose collate function is used.

    Raises:
        DataError: if it is none of these, has images outside [0,1], raises an error, or changes between readings.
    """
    with only_harness_errors(DataError, "data: reading it"):
        return _split_of(data)


def _split_of(data: object) -> ImageSplit:
    if all(hasattr(data, name) for name in ("labels", "ids", "hashes", "__getitem__", "__len__")):
        return data if isinstance(data, TensorSplit) else verified(cast(ImageSplit, data))
    if isinstance(data, (tuple, list)):
        return TensorSplit(*as_pair(tuple(data), "data"))
    if isinstance(data, torch.utils.data.DataLoader):
        if isinstance(data.dataset, torch.utils.data.IterableDataset):
            return _collected(data)
        collate = torch.utils.data.default_collate if data.batch_sampler is None else data.collate_fn
        return MappedSplit(data.dataset, _chosen(data), collate)
    if isinstance(data, torch.utils.data.IterableDataset):
        return _collected(torch.utils.data.DataLoader(data, batch_size=1))
    if isinstance(data, torch.utils.data.Dataset):
        if not hasattr(data, "__len__"):
            raise DataError(f"data: expected a data set with a length, got {type(data).__name__}")
        return MappedSplit(data, range(len(data)), torch.utils.data.default_collate)
    raise DataError(f"data: expected a DataLoader, a Dataset or a pair (images, labels), got {type(data).__name__}")


def _chosen(loader: DataLoader[Any]) -> Sequence[int]:
    """Returns the positions that a loader reads; in the data set's order if it reads all of them shuffled."""
    sampler, batches, count = loader.sampler, loader.batch_sampler, len(cast(Sized, loader.dataset))
    standard = batches is None or type(batches) is torch.utils.data.BatchSampler
    if standard and type(sampler) is torch.utils.data.RandomSampler and not sampler.replacement and sampler.num_samples == count:
        return range(count)
    return list(sampler) if batches is None else [index for batch in batches for index in batch]


def _collected(batches: Iterable[Any]) -> TensorSplit:
    """Returns all batches of a loader as one split in memory.

    If it can be iterated again, it must return the same images, in any order.
    """
    pairs = [as_pair(batch, "data") for batch in batches]
    if not pairs:
        raise DataError("data: expected at least one example, got none")
    for images, labels in pairs:
        check_images(images)
        checked_labels(labels, count=len(images))
        if (images.shape[1:], images.dtype) != (pairs[0][0].shape[1:], pairs[0][0].dtype):
            raise DataError(f"data: expected images of one size and type, got {_kind(pairs[0][0])} and {_kind(images)}")
    split = TensorSplit(torch.cat([images for images, _ in pairs]), torch.cat([labels for _, labels in pairs]))
    known = set(split.hashes)
    for batch in batches:
        if not known.issuperset(map(pixel_hash, as_pair(batch, "data")[0])):
            raise DataError(
                "data: expected the same images whenever it is iterated, got others: no two runs would judge the same ones; "
                "turn augmentation off, or give the images as tensors"
            )
    return split


def _kind(images: Tensor) -> str:
    return f"{images.dtype} {size_of(images[0])}"
