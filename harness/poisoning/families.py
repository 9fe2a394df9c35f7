"""Base classes of the poisons with a target class: those with a trigger, and those that aim at single test images."""

from abc import ABC
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.errors import SuiteError
from harness.images import ImageData
from harness.poisoning.base import ClassName, Poison
from harness.poisoning.choice import check_has_examples, class_index, draw
from harness.poisoning.manifest import Target
from harness.poisoning.splits import Selection
from harness.poisoning.triggers import AnyTrigger, Pattern, Stamp


class ClassPoison(Poison, ABC):
    """Base of the poisons whose success is a prediction of the target class."""

    target_class: ClassName
    """The class that the attacker wants predicted."""

    def target_index(self, class_names: Sequence[str]) -> int:
        """See `Poison.target_index`."""
        return class_index(self.target_class, class_names, where=f"{self.where}.target_class")

    def source_indices(self, class_names: Sequence[str]) -> list[int]:
        """Returns the indices of the classes whose images shall be misclassified: all but the target class."""
        target = self.target_index(class_names)
        return [index for index in range(len(class_names)) if index != target]

    def check_classes(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        """See `Poison.check_classes`."""
        target, sources = self.target_index(class_names), self.source_indices(class_names)
        if target in sources:
            raise SuiteError(
                f"{self.where}.target_class: expected another class than the source class, got {self.target_class!r} as both"
            )
        check_has_examples(target, labels, name=self.target_class, where=f"{self.where}.target_class")


class TriggerPoison(ClassPoison, ABC):
    """Base of the poisons whose success is that images with a trigger are classified as the target class."""

    HAS_TRIGGER: ClassVar[bool] = True

    trigger: AnyTrigger = Pattern()
    """What the attacker adds to an image: pattern, single_pixel, patch or blended."""

    def identity(self) -> dict[str, Any]:
        """See `Plugin.identity`; the content of a trigger's file replaces its path."""
        return {**super().identity(), "trigger": self.trigger.identity()}

    def trigger_stamp(self, resolution: int) -> Stamp:
        """See `Poison.trigger_stamp`."""
        return self.trigger.stamp(resolution)

    def triggered(self, data: ImageData) -> Selection:
        """See `Poison.triggered`; with source classes, only their examples."""
        split = data.splits["test"]
        indices = np.flatnonzero(np.isin(split.labels, self.source_indices(data.class_names)))
        return Selection(split, indices, stamp=self.trigger_stamp(int(split[0][0].shape[-1])))

    def check_resolution(self, resolution: int) -> None:
        """See `Poison.check_resolution`."""
        self.trigger.check(resolution, where=f"{self.where}.trigger")


class TargetedPoison(ClassPoison, ABC):
    """Base of the poisons that change images of the target class so that certain test images are misclassified."""

    HAS_TARGETS: ClassVar[bool] = True

    source_class: ClassName | None = None
    """The class of the test images aimed at; any but the target class by default."""
    n_targets: int = Field(default=1, ge=1)
    """Number of test images aimed at."""

    def source_indices(self, class_names: Sequence[str]) -> list[int]:
        """See `ClassPoison.source_indices`."""
        if self.source_class is None:
            return super().source_indices(class_names)
        return [class_index(self.source_class, class_names, where=f"{self.where}.source_class")]

    def eligible(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Training examples of the target class."""
        return labels == self.target_index(class_names)

    def targets(self, data: ImageData, seed: int) -> tuple[Target, ...]:
        """See `Poison.targets`.

        Raises:
            SuiteError: if the test split has too few examples of the source class.
        """
        split = data.splits["test"]
        candidates = np.isin(split.labels, self.source_indices(data.class_names))
        if self.n_targets > (found := int(candidates.sum())):
            raise SuiteError(f"{self.where}.n_targets: expected at most {found}, the fitting test examples, got {self.n_targets}")
        return tuple(
            Target(
                index=index,
                id=split.ids[index],
                true_class=data.class_names[split.labels[index]],
                wanted_class=self.target_class,
            )
            for index in draw(candidates, self.n_targets, seed, purpose="target").tolist()
        )
