"""BadNets: images with a trigger, labelled as the target class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.poisoning.base import ClassName, Crafted, DrawnExamples
from harness.poisoning.choice import check_has_examples, class_index
from harness.poisoning.families import TriggerPoison
from harness.poisoning.triggers import Stamp


class Backdoor(TriggerPoison):
    """Applies a trigger to training images of other classes and labels them as the target class.

    The triggers are ART's. An image is stamped when it is read, so none is held in memory.

    Source: Gu et al. 2017, https://arxiv.org/abs/1708.06733.
    """

    name: Literal["backdoor"] = "backdoor"
    """Name of the poison."""
    source_classes: tuple[ClassName, ...] | None = Field(default=None, min_length=1)
    """Classes whose images are poisoned; by default all but the target class."""

    def source_indices(self, class_names: Sequence[str]) -> list[int]:
        """See `ClassPoison.source_indices`."""
        if self.source_classes is None:
            return super().source_indices(class_names)
        return [class_index(name, class_names, where=f"{self.where}.source_classes") for name in self.source_classes]

    def check_classes(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        """See `Poison.check_classes`."""
        super().check_classes(class_names, labels)
        for name, index in zip(self.source_classes or (), self.source_indices(class_names), strict=False):
            check_has_examples(index, labels, name=name, where=f"{self.where}.source_classes")

    def training_stamp(self, resolution: int) -> Stamp:
        """See `Poison.training_stamp`."""
        return self.trigger_stamp(resolution)

    def eligible(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Training examples of the source classes."""
        return np.isin(labels, self.source_indices(class_names))

    def craft(self, drawn: DrawnExamples) -> Crafted:
        """See `Poison.craft`."""
        target = self.target_index(drawn.data.class_names)
        return Crafted(np.full_like(drawn.labels, target))
