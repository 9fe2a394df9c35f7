"""Checks of the classes and rates of a poison, and the random choice of its examples."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import SuiteError
from harness.images import misread
from harness.system.seeds import seed_of


class WrittenAsNumber(str):
    """A class name that is a number in the suite file: 2, not "2"."""


def class_index(name: str, class_names: Sequence[str], *, where: str) -> int:
    """Returns the index of a class.

    Raises:
        SuiteError: if there is no such class, or a number is the name of one class and the index of another.
    """
    if name not in class_names:
        raise SuiteError(f"{where}: expected one of the classes {', '.join(class_names)}, got {name!r}")
    if isinstance(name, WrittenAsNumber) and (problem := misread(int(name), class_names)):
        raise SuiteError(f"{where}: {problem}")
    return class_names.index(name)


def check_has_examples(
    index: int, labels: NDArray[np.int64], *, name: str, where: str, split: Literal["training", "test"] = "training"
) -> None:
    """Checks that a class has examples in a split.

    Raises:
        SuiteError: if no label is `index`.
    """
    if not (labels == index).any():
        raise SuiteError(f"{where}: expected a class with {split} examples, got {name!r} that has none")


def poison_count(rate: float, examples: int, eligible: int, *, where: str) -> int:
    """Returns the number of examples of a rate: the rounded share of the whole training split.

    Args:
        rate: Share in (0, 1].
        examples: Size of the training split.
        eligible: How many of them may be poisoned.
        where: Named first in errors.

    Raises:
        SuiteError: if the rate is out of range, rounds to no example, or to more examples than are eligible.
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
    """Returns `count` positions of eligible examples, rising, drawn without replacement.

    With the same seed and purpose, the examples of a smaller count are part of those of a larger one.
    """
    order = np.random.default_rng(seed_of(seed, "poison", purpose)).permutation(np.flatnonzero(eligible))
    return np.sort(order[:count])
