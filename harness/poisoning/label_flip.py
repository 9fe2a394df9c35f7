"""Label flips: wrong labels on clean images."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from harness.images import ImageData
from harness.poisoning.base import ClassName, Crafted, DrawnExamples, Poison
from harness.poisoning.choice import check_has_examples, class_index
from harness.poisoning.manifest import Manifest


class LabelFlip(Poison):
    """Labels examples of a source class as a target class; without the two, any example as any other class.

    From one class to another, success is a test image of the source class that is classified as the target class. Random
    labels have no target class and so no success; their effect is in the clean accuracy.

    Source: Biggio et al. 2011, "Support vector machines under adversarial label noise", ACML.
    """

    name: Literal["label_flip"] = "label_flip"
    """Name of the poison."""
    source_class: ClassName | None = None
    """The class whose examples are relabelled; given together with `target_class`, or not at all."""
    target_class: ClassName | None = None
    """Their new class."""

    @model_validator(mode="after")
    def _both_classes_or_none(self) -> Self:
        if (self.source_class is None) != (self.target_class is None):
            raise ValueError("expected source_class and target_class together, or neither for random labels, got one of them")
        if self.source_class is not None and self.source_class == self.target_class:
            raise ValueError(f"target_class: expected another class than the source class, got {self.target_class!r} as both")
        return self

    @property
    def is_targeted(self) -> bool:
        """See `Poison.is_targeted`; random labels have no target."""
        return self.source_class is not None

    def aimed_at(self, data: ImageData, manifest: Manifest) -> NDArray[np.int64]:
        """See `Poison.aimed_at`: every test image of the source class."""
        return np.flatnonzero(data.splits["test"].labels == self._index("source_class", data.class_names))

    def target_index(self, class_names: Sequence[str]) -> int | None:
        """See `Poison.target_index`."""
        return self._index("target_class", class_names)

    def check_classes(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        """See `Poison.check_classes`."""
        for field in ("source_class", "target_class"):
            index = self._index(field, class_names)
            if index is not None:
                check_has_examples(index, labels, name=class_names[index], where=f"{self.where}.{field}")

    def check_test_split(self, data: ImageData) -> None:
        """See `Poison.check_test_split`; the source class needs test images, on which success is measured."""
        source = self._index("source_class", data.class_names)
        if source is not None:
            where, labels = f"{self.where}.source_class", data.splits["test"].labels
            check_has_examples(source, labels, name=data.class_names[source], where=where, split="test")

    def eligible(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Training examples of the source class; all of them for random labels."""
        source = self._index("source_class", class_names)
        return np.ones(len(labels), dtype=bool) if source is None else labels == source

    def craft(self, drawn: DrawnExamples) -> Crafted:
        """See `Poison.craft`."""
        target = self.target_index(drawn.data.class_names)
        if target is not None:
            return Crafted(np.full_like(drawn.labels, target))
        examples = len(drawn.data.splits["train"])
        shifts = np.random.default_rng(drawn.seed).integers(1, drawn.classes, examples)
        return Crafted((drawn.labels + shifts[drawn.indices]) % drawn.classes)

    def _index(self, field: str, class_names: Sequence[str]) -> int | None:
        name = getattr(self, field)
        return None if name is None else class_index(name, class_names, where=f"{self.where}.{field}")
