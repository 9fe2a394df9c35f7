"""Joined splits, stratified subsets and stratified divisions of splits, reproducible by seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.images import ImageSplit, View, read_detailed
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    from torch import Tensor


class Drawn(View):
    """Examples drawn from the training split of a source."""


class Joined:
    """Two splits, one after the other; no image is copied."""

    def __init__(self, first: ImageSplit, second: ImageSplit) -> None:
        """See the class."""
        self._parts = (first, second)
        self.labels: NDArray[np.int64] = np.concatenate([first.labels, second.labels])
        self.ids: Sequence[str] = [*first.ids, *second.ids]
        self.hashes: Sequence[str] = [*first.hashes, *second.hashes]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        part, position = self._place(index)
        return part[position]

    def read_detailed(self, index: int, side: int) -> Tensor:
        """See `DetailedSplit`."""
        part, position = self._place(index)
        return read_detailed(part, position, side)

    def _place(self, index: int) -> tuple[ImageSplit, int]:
        """Returns the part that holds an example, and its position there."""
        first, second = self._parts
        index = range(len(self))[index]
        return (first, index) if index < len(first) else (second, index - len(first))


def take(split: ImageSplit, indices: Sequence[int] | NDArray[np.integer]) -> View:
    """Returns the examples of a split at `indices`, in their order."""
    positions = np.asarray(indices, dtype=np.int64)
    return View(split.split, split.indices[positions]) if type(split) is View else View(split, positions)


def subset(split: ImageSplit, limit: int | None, seed: int) -> ImageSplit:
    """Returns `limit` examples, every class in proportion, in the order of the split.

    Proportions are rounded by largest remainder, with at least one example of every class if `limit` allows it.
    In each class the examples of a smaller limit are part of those of a larger one.

    Args:
        split: The split to choose from.
        limit: Number of examples; None, or more than the split has, means all.
        seed: Decides which examples of a class are chosen.

    Raises:
        DataError: if `limit` is below 1.
    """
    if limit is None or limit >= len(split):
        return split
    if limit < 1:
        raise DataError(f"limit: expected a whole number >= 1, got {limit}")
    members = _shuffled_members(split.labels, seed, "subset")
    quotas = apportion(sizes := _sizes(members), limit, sizes)
    return take(split, _joined(members, quotas))


def stratified_split(split: ImageSplit, shares: Sequence[float], seed: int) -> tuple[View, ...]:
    """Returns a split divided into one part for each share and the rest, every class in proportion in each part.

    Args:
        split: The split to divide.
        shares: Sizes of the parts as shares of the split, each above 0, together below 1.
        seed: Decides the part of each example.

    Returns:
        The parts in the order of `shares`, then the rest; each keeps the order of the split.

    Raises:
        DataError: if a class has too few examples to be in every part.
    """
    members = _shuffled_members(split.labels, seed, "stratified_split")
    left = sizes = _sizes(members)
    if (smallest := int(sizes.min())) <= len(shares):
        parts_wanted, example = len(shares) + 1, split.ids[members[sizes.argmin()].min()]
        raise DataError(
            f"the class of {example}: expected at least {parts_wanted} examples for {parts_wanted} splits, got {smallest}"
        )
    parts = []
    for number, share in enumerate(shares):
        most = left - (len(shares) - number)  # every later part needs one example of each class
        total = min(max(round(share * len(split)), len(sizes)), int(most.sum()))
        quotas = apportion(sizes, total, most)
        parts.append(_joined(members, quotas))
        members = [indices[quota:] for indices, quota in zip(members, quotas, strict=True)]
        left = left - quotas
    parts.append(_joined(members, left))
    return tuple(take(split, part) for part in parts)


def apportion(sizes: NDArray[np.int64], total: int, most: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns `total` seats distributed over classes in proportion to their sizes, by largest remainder.

    Args:
        sizes: Examples of each class (K,), all above 0.
        total: Seats to distribute, at most `most.sum()`.
        most: Largest number of seats of each class (K,).

    Returns:
        Seats (K,), at least one for every class if `total >= K`.
    """
    least = np.ones_like(sizes) if total >= len(sizes) else np.zeros_like(sizes)
    exact = sizes * (total / sizes.sum())
    seats = np.clip(np.floor(exact).astype(np.int64), least, most)
    while seats.sum() < total:
        seats[np.where(seats < most, exact - seats, -np.inf).argmax()] += 1
    while seats.sum() > total:
        seats[np.where(seats > least, exact - seats, np.inf).argmin()] -= 1
    return seats


def _shuffled_members(labels: NDArray[np.int64], seed: int, purpose: str) -> list[NDArray[np.int64]]:
    """Returns the positions of each class, in an order that only seed, purpose and class decide."""
    return [
        np.random.default_rng(seed_of(seed, purpose, int(label))).permutation(np.flatnonzero(labels == label))
        for label in np.unique(labels)
    ]


def _sizes(members: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.array([len(indices) for indices in members], dtype=np.int64)


def _joined(members: Sequence[NDArray[np.int64]], quotas: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.sort(np.concatenate([indices[:quota] for indices, quota in zip(members, quotas, strict=True)]))
