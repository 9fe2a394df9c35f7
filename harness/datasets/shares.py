"""Data sets without a validation or a test split: their fields, and the drawing of these splits from the training images."""

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from harness.datasets.base import Dataset
from harness.datasets.splits import Drawn, stratified_split
from harness.images import SPLITS, ImageSplit


class DrawsValidation(Dataset, ABC):
    """A data set whose validation split is drawn from its training images, stratified by class."""

    seed: int = 0
    """Decides which examples are drawn."""
    validation: float = Field(default=0.15, gt=0, lt=1)
    """Share of the training images that becomes the validation split, if the source has none."""


class DrawsValidationAndTest(DrawsValidation, ABC):
    """A data set whose test split may be drawn too."""

    test: float = Field(default=0.25, gt=0, lt=1)
    """Share of the training images that becomes the test split, if the source has none."""

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"expected validation + test < 1, got {self.validation} + {self.test}")
        return self


def completed(splits: Mapping[str, ImageSplit], shares: Sequence[tuple[str, float]], seed: int) -> dict[str, ImageSplit]:
    """Returns the three splits; missing ones are drawn from "train".

    Args:
        splits: The splits that the source has, "train" among them.
        shares: Name and share of each split that may be drawn.
        seed: Decides which examples are drawn.

    Raises:
        DataError: if a class has too few training examples to draw from.
    """
    missing = [(name, share) for name, share in shares if name not in splits]
    *parts, train = stratified_split(splits["train"], [share for _, share in missing], seed)
    drawn = {name: Drawn(part.split, part.indices) for (name, _), part in zip(missing, parts, strict=True)}
    found = {**splits, **drawn, "train": train}
    return {name: found[name] for name in SPLITS}
