"""Batches of a split: shuffled and augmented for training, in order for evaluation; decoded ahead by worker processes.

Only the batches that are being prepared are in memory, so memory does not grow with the data set. A worker
computes with one thread, as the network needs the others.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.datasets.augment import Augment
from harness.images import ImageSplit
from harness.seeds import generator_of, seed_of

Draw = tuple[int, int]
"""The epoch and the index of a training example: all that its augmentation depends on beside the seed."""


class ShuffledBatches(Sampler[list[Draw]]):
    """The batches of one epoch: a new order each epoch, sizes that differ by one at most.

    Even sizes keep the last batch from being so small that batch norm learns noise from it.

    Args:
        count: The number of examples N.
        batch_size: Largest number of examples in a batch.
        seed: Decides the order of every epoch.
        epoch: The epoch to begin with.
    """

    def __init__(self, count: int, batch_size: int, *, seed: int, epoch: int) -> None:
        """See the class."""
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration; workers that persist need no restart, each index says its epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = np.random.default_rng(seed_of(self.seed, "order", self.epoch)).permutation(self.count)
        for batch in np.array_split(order, len(self)):
            yield [(self.epoch, index) for index in batch.tolist()]


class AugmentedExamples(Dataset[tuple[Tensor, int]]):
    """A split whose examples are drawn by epoch and index."""

    def __init__(self, split: ImageSplit, augment: Augment, seed: int) -> None:
        """See the class."""
        self.split = split
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        epoch, index = draw
        image, label = self.split[index]
        return self.augment.apply(image, np.random.default_rng(seed_of(self.seed, "augment", epoch, index))), label


class OrderedExamples(Dataset[tuple[Tensor, int]]):
    """A split as a torch data set."""

    def __init__(self, split: ImageSplit) -> None:
        """See the class."""
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.split[index]


def training_batches(
    split: ImageSplit, *, augment: Augment, batch_size: int, seed: int, epoch: int, workers: int
) -> DataLoader[tuple[Tensor, int]]:
    """Returns the shuffled, augmented batches of an epoch; the same whatever the number of workers is.

    Workers live as long as the loader: call `loader.batch_sampler.set_epoch(epoch)` to go on with the same ones.

    Args:
        split: The training split.
        augment: Random changes of the images.
        batch_size: Largest number of examples in a batch; batches of an epoch are evenly filled.
        seed: Decides order and augmentation together with the epoch.
        epoch: The epoch to begin with.
        workers: Processes that decode ahead; 0 decodes in this one.
    """
    return DataLoader(
        AugmentedExamples(split, augment, seed),
        batch_sampler=ShuffledBatches(len(split), batch_size, seed=seed, epoch=epoch),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=generator_of(seed, "loader"),  # else every iteration would draw from the global generator
    )


def evaluation_batches(split: ImageSplit, *, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """Returns a split's batches (x, y) in its order: x float32 (B, C, H, W) in [0,1], y int64 (B,).

    Args:
        split: The split to evaluate on.
        batch_size: Examples of a batch; the last one may have fewer.
        workers: Processes that decode ahead; 0 decodes in this one.
    """
    return DataLoader(
        OrderedExamples(split),
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=generator_of("loader"),
    )
