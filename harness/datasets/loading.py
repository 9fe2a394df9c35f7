"""Batches of a split: shuffled and augmented for training, in order for evaluation; decoded ahead by worker processes.

Only the batches that are being prepared are in memory, so memory does not grow with the data set. A worker
computes with one thread, as the network needs the others.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.datasets.augment import Augment, Change
from harness.images import DetailedSplit, ImageSplit
from harness.system.children import end_with_parent
from harness.system.seeds import generator_of, seed_of

Draw = tuple[int, int, int]
"""The epoch, the index of a training example, and how often the epoch drew it before: all that its augmentation depends
on beside the seed."""


def expected_draws(labels: NDArray[np.int64], class_balance: float) -> NDArray[np.float64]:
    """Returns how often an epoch of N draws shall draw each example (N,), on average.

    An example of a class of n examples is drawn in proportion to n ** -class_balance.

    Args:
        labels: Class index of every example (N,).
        class_balance: 0 draws every example once, 1 every class equally often.
    """
    weights = np.bincount(labels)[labels].astype(np.float64) ** -class_balance
    return len(labels) * weights / weights.sum()


class ShuffledBatches(Sampler[list[Draw]]):
    """The batches of one epoch: a new order each epoch, sizes that differ by one at most.

    Even sizes keep the last batch from being so small that batch norm learns noise from it.

    Args:
        count: The number of examples N, and of an epoch's draws.
        batch_size: Largest number of examples in a batch.
        seed: Decides the order of every epoch.
        epoch: The epoch to begin with.
        expected: How often an epoch draws each example (N,), N in all; a fraction is rounded up or down by chance. None
            draws each once.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, epoch: int, expected: NDArray[np.float64] | None = None
    ) -> None:
        """See the class."""
        self.count = count
        self.expected = expected
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration; workers that persist need no restart, each index says its epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in np.array_split(self._draws(), len(self)):
            yield [(self.epoch, index, earlier) for index, earlier in batch.tolist()]

    def _draws(self) -> NDArray[np.int64]:
        """Returns the epoch's draws in their order (N, 2): the index, and how often it was drawn before."""
        rng = np.random.default_rng(seed_of(self.seed, "order", self.epoch))
        order = rng.permutation(self.count)
        if self.expected is None:
            return np.stack([order, np.zeros_like(order)], axis=1)
        # Systematic sampling: examples lie along a line, each as long as it is to be drawn often, and a comb of N teeth
        # a unit apart falls on it anywhere.
        ends = np.cumsum(self.expected[order])
        ends[-1] = self.count
        draws = np.diff(np.floor(ends + rng.random()), prepend=0).astype(np.int64)
        earlier = np.concatenate([np.arange(count) for count in draws])
        return rng.permutation(np.stack([order.repeat(draws), earlier], axis=1))


class AugmentedExamples(Dataset[tuple[Tensor, int]]):
    """A split whose examples are drawn by epoch, index and earlier draws."""

    def __init__(self, split: ImageSplit, augment: Augment, seed: int) -> None:
        """See the class."""
        self.split = split
        self.augment = augment
        self.seed = seed
        self._detailed = split if augment.detail > 1 and isinstance(split, DetailedSplit) else None
        self._resolution = 0 if self._detailed is None else split[0][0].shape[-1]

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        epoch, index, earlier = draw
        again = (earlier,) if earlier else ()
        change = self.augment.draw(np.random.default_rng(seed_of(self.seed, "augment", epoch, index, *again)))
        return change.apply(*self._read(index, change)), int(self.split.labels[index])

    def _read(self, index: int, change: Change) -> tuple[Tensor, Sequence[int]]:
        """Returns the image, with more detail where the change shows a part of it, and the height and width to give out."""
        if self._detailed is None:
            image, _ = self.split[index]
            return image, image.shape[1:]
        image = self._detailed.read_detailed(index, change.source_side(self._resolution))
        return image, (self._resolution, self._resolution)


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
    split: ImageSplit, *, augment: Augment, batch_size: int, seed: int, epoch: int, workers: int, class_balance: float = 0.0
) -> DataLoader[tuple[Tensor, int]]:
    """Returns the shuffled, augmented batches of an epoch; the same whatever the number of workers is, up to rounding.

    A mean over an image, as a change of contrast takes it, is summed in another order by a worker's one thread than by several.

    Workers live as long as the loader: call `loader.batch_sampler.set_epoch(epoch)` to go on with the same ones.

    Args:
        split: The training split.
        augment: Random changes of the images.
        batch_size: Largest number of examples in a batch; batches of an epoch are evenly filled.
        seed: Decides order and augmentation together with the epoch.
        epoch: The epoch to begin with.
        workers: Processes that decode ahead; 0 decodes in this one.
        class_balance: How much oftener examples of rare classes are drawn; see `expected_draws`.
    """
    expected = expected_draws(split.labels, class_balance) if class_balance else None
    return DataLoader(
        AugmentedExamples(split, augment, seed),
        batch_sampler=ShuffledBatches(len(split), batch_size, seed=seed, epoch=epoch, expected=expected),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_end_with_parent,
        generator=generator_of(seed, "loader"),  # else every iteration would draw from the global generator
    )


def _end_with_parent(_: int) -> None:
    """Lets a process that decodes end at once with the one that it decodes for."""
    end_with_parent()


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
        worker_init_fn=_end_with_parent,
        generator=generator_of("loader"),
    )
