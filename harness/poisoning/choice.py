"""Which classes, which training examples and which test examples a poison takes: checked, and drawn by seed."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import SuiteError
from harness.images import misread
from harness.system.seeds import seed_of


class WrittenAsNumber(str):
    """A class name that a suite file gives as a number: 2, not "2"."""


def class_index(name: str, class_names: Sequence[str], *, where: str) -> int:
    """Returns the index of a class.

    Raises:
        SuiteError: if there is no such class, or a number names one and is the index of another.
    """
    if name not in class_names:
        raise SuiteError(f"{where}: expected one of the classes {', '.join(class_names)}, got {name!r}")
    if isinstance(name, WrittenAsNumber) and (problem := misread(int(name), class_names)):
        raise SuiteError(f"{where}: {problem}")
    return class_names.index(name)


def check_has_examples(
    index: int, labels: NDArray[np.int64], *, name: str, where: str, split: Literal["training", "test"] = "training"
) -> None:
    """Refuses a class without examples in a split.

    Raises:
        SuiteError: if no label is `index`.
    """
    if not (labels == index).any():
        raise SuiteError(f"{where}: expected a class with {split} examples, got {name!r} that has none")


def poison_count(rate: float, examples: int, eligible: int, *, where: str) -> int:
    """Returns how many examples a rate stands for: the rounded share of the whole training split.

    Args:
        rate: Share in (0, 1].
        examples: Size of the training split.
        eligible: How many of them the poison may take.
        where: Named first in errors.

    Raises:
        SuiteError: if the rate is out of range, rounds to no example, or asks for more than are eligible.
    """
    if not 0 < rate <= 1:
        raise SuiteError(f"{where}: expected a rate in (0, 1], got {rate}")
    count = round(rate * examples)
    if count == 0:
        raise SuiteError(f"{where}: expected a rate of one example at least, got {rate} of {examples} training examples")
    if count > eligible:
        raise SuiteError(
            f"{where}: too few examples for the rate: {rate} of {examples} is {count}, and only {eligible} examples "
            f"can be poisoned; the largest rate is {eligible / examples:.4g}"
        )
    return count


def draw(eligible: NDArray[np.bool_], count: int, seed: int, *, purpose: str = "training") -> NDArray[np.int64]:
    """Returns `count` positions of eligible examples, rising, without replacement.

    With the same seed and purpose, what a smaller count draws is part of what a larger one draws.
    """
    order = np.random.default_rng(seed_of(seed, "poison", purpose)).permutation(np.flatnonzero(eligible))
    return np.sort(order[:count])
