"""A backdoor whose trigger is in none of the training images."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.errors import SuiteError
from harness.poisoning import art
from harness.poisoning.base import ClassName, Crafted, DrawnExamples
from harness.poisoning.choice import check_has_examples, class_index, draw
from harness.poisoning.families import TriggerPoison
from harness.poisoning.splits import images_at
from harness.spec import Eps
from harness.system.lazy import torch


class HiddenTrigger(TriggerPoison):
    """Perturbs images of the target class until they have the features of triggered images of the source class.

    Labels stay true. Success at test time: images of the source class with the trigger are classified as the target class.
    Through ART.

    Source: Saha et al. 2020, https://arxiv.org/abs/1910.00033, algorithm 1.
    """

    NEEDS_MODEL: ClassVar[bool] = True
    CRAFTS: ClassVar[bool] = True

    name: Literal["hidden_trigger"] = "hidden_trigger"
    """Name of the poison."""
    source_class: ClassName
    """The class whose triggered images shall be misclassified."""
    eps: Eps = Field(default=Fraction(16, 255), gt=0, le=1)
    """Budget (Linf) of the perturbation."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Size of a gradient step."""
    steps: int = Field(default=1000, ge=1)
    """Largest number of steps for a batch; 5000 in the paper."""
    batch_size: int = Field(default=100, ge=1)
    """Images optimised together."""

    @property
    def largest_crafted_change(self) -> float:
        """See `Poison.largest_crafted_change`."""
        return float(self.eps)

    def source_indices(self, class_names: Sequence[str]) -> list[int]:
        """See `ClassPoison.source_indices`."""
        return [class_index(self.source_class, class_names, where=f"{self.where}.source_class")]

    def eligible(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Training examples of the target class."""
        return labels == self.target_index(class_names)

    def check_classes(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        """See `Poison.check_classes`."""
        super().check_classes(class_names, labels)
        source = self.source_indices(class_names)[0]
        check_has_examples(source, labels, name=self.source_class, where=f"{self.where}.source_class")

    def check_rate(self, class_names: Sequence[str], labels: NDArray[np.int64], rate: float) -> None:
        """See `Poison.check_rate`; ART also needs an image of the source class for every poisoned one."""
        count, sources = round(rate * len(labels)), int(self._is_source(class_names, labels).sum())
        if count > sources:
            raise SuiteError(
                f"{self.where}.rates: too few examples of the source class {self.source_class!r} for the rate: "
                f"expected {count} at least, got {sources}"
            )

    def craft(self, drawn: DrawnExamples) -> Crafted:
        """See `Poison.craft`."""
        train = drawn.data.splits["train"]
        sources = draw(self._is_source(drawn.data.class_names, train.labels), len(drawn.indices), drawn.seed)
        images = drawn.images()
        stamp = self.trigger_stamp(images.shape[-1])
        poisoned = art.hidden_trigger(
            drawn.model,
            images,
            images_at(train, sources),
            perturbation=lambda x: stamp(torch.from_numpy(x)).numpy(),
            eps=float(self.eps),
            learning_rate=self.learning_rate,
            steps=self.steps,
            batch_size=self.batch_size,
        )
        return Crafted(drawn.labels, torch.from_numpy(poisoned))

    def _is_source(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.isin(labels, self.source_indices(class_names))
