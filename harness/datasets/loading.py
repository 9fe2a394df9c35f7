"""Batches of a split: shuffled and augmented for training, in order for evaluation; worker processes decode in advance.

Only the batches in preparation are in memory, so memory does not grow with the data set. A worker computes with one
thread, as the network needs the others.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.datasets.augment import Augment, DrawnAugmentation
from harness.images import DetailedSplit, ImageSplit
from harness.system.children import end_with_parent
from harness.system.seeds import generator_of, seed_of

Draw = tuple[int, int, int]
"""The epoch, the index of a training example, and how often the epoch drew it before; with the seed, these decide its
augmentation."""


def expected_draws(labels: NDArray[np.int64], class_balance: float) -> NDArray[np.float64]:
    """Returns the expected number of draws of each example (N,) in an epoch of N draws.

    For an example of a class of n examples it is proportional to n ** -class_balance.

    Args:
        labels: Class index of every example (N,).
        class_balance: 0 draws every example once, 1 every class equally often.
    """
    weights = np.bincount(labels)[labels].astype(np.float64) ** -class_balance
    return len(labels) * weights / weights.sum()


class ShuffledBatches(Sampler[list[Draw]]):
    """The batches of one epoch: another order each epoch, sizes that differ by one at most.

    With even sizes no last batch is so small that batch norm's statistics on it are noise.

    Args:
        count: The number of examples N, which is also the number of draws of an epoch.
        batch_size: Largest number of examples in a batch.
        seed: Decides the order of every epoch.
        epoch: The first epoch.
        expected: Expected draws of each example (N,) in an epoch, N in sum; a fraction is rounded up or down at random.
            None draws each example once.
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
        """Sets the epoch of the next iteration; persistent workers need no restart, as each draw names its epoch."""
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
        # Systematic sampling: the expected draws are consecutive intervals of a line, and N points, a unit apart from a
        # random start, each draw the interval that they are in.
        ends = np.cumsum(self.expected[order])
        ends[-1] = self.count
        draws = np.diff(np.floor(ends + rng.random()), prepend=0).astype(np.int64)
        earlier = np.concatenate([np.arange(count) for count in draws])
        return rng.permutation(np.stack([order.repeat(draws), earlier], axis=1))


class AugmentedExamples(Dataset[tuple[Tensor, int]]):
    """A split whose examples are read by epoch, index and earlier draws, with augmentation."""

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

    def _read(self, index: int, change: DrawnAugmentation) -> tuple[Tensor, Sequence[int]]:
        """Returns the image, with more detail if it will be cropped, and height and width of the result."""
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
    """Returns the shuffled, augmented batches of an epoch; for any number of workers the same, up to rounding.

    The one thread of a worker sums the mean of an image, for a change of contrast, in another order than several threads do.

    Workers persist as long as the loader: call `loader.batch_sampler.set_epoch(epoch)` to use them for another epoch.

    Args:
        split: The training split.
        augment: Random changes of the images.
        batch_size: Largest number of examples in a batch; the sizes of an epoch's batches differ by one at most.
        seed: Decides, with the epoch, order and augmentation.
        epoch: The first epoch.
        workers: Processes that decode in advance; with 0, this process decodes.
        class_balance: How much more often examples of rare classes are drawn; see `expected_draws`.
    """
    expected = expected_draws(split.labels, class_balance) if class_balance else None
    return DataLoader(
        AugmentedExamples(split, augment, seed),
        batch_sampler=ShuffledBatches(len(split), batch_size, seed=seed, epoch=epoch, expected=expected),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_end_with_parent,
        generator=generator_of(seed, "loader"),  # without it, every iteration would draw from the global generator
    )


def _end_with_parent(_: int) -> None:
    """Makes a worker process end at once with its parent."""
    end_with_parent()


def evaluation_batches(split: ImageSplit, *, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """Returns a split's batches (x, y) in its order: x float32 (B, C, H, W) in [0,1], y int64 (B,).

    Args:
        split: The split to evaluate on.
        batch_size: Examples of a batch; the last one may have fewer.
        workers: Processes that decode in advance; with 0, this process decodes.
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
