"""The manifest: what was poisoned, example by example. Reports and the scores of detectors use it as ground truth."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from harness.errors import StoreError
from harness.spec import Spec, explain


class Target(Spec):
    """A test example that a targeted poison aims at."""

    index: int = Field(ge=0)
    """Position in the test split."""
    id: str
    """The example's name."""
    true_class: str
    """Its class."""
    wanted_class: str
    """The class that the attacker wants predicted."""


class PoisonedExample(Spec):
    """One poisoned training example."""

    index: int = Field(ge=0)
    """Position in the training split."""
    id: str
    """The example's name."""
    label_before: int
    """Class index in the clean data."""
    label_after: int
    """Class index in the poisoned data."""
    sha256: str
    """Hash of the poisoned pixels, float32 (3, R, R)."""
    changed_pixels: int
    """Number of pixels that differ, of R x R."""
    largest_change: float
    """Largest change of a pixel value (Linf), in units of [0,1]."""


class Manifest(Spec):
    """One poisoned training set."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    poison: dict[str, Any]
    """Name and parameters of the poison."""
    seed: int
    """Seed of the choice of examples and of the crafting."""
    clean_hash: str
    """Content hash of the clean data set."""
    training_examples: int = Field(ge=1)
    """Size of the training split N."""
    requested_rate: float
    """Share of the training split in the suite."""
    realised_rate: float
    """Share of the training split that is poisoned."""
    source_classes: tuple[str, ...]
    """Classes of the poisoned examples in the clean data."""
    target_class: str | None
    """The class that the attacker wants predicted, or None."""
    trigger_sha256: str | None
    """Hash of the trigger's pixels, or None if the poison has no trigger."""
    targets: tuple[Target, ...]
    """The test examples that a targeted poison aims at."""
    examples: tuple[PoisonedExample, ...]
    """The poisoned examples, in the order of the training split."""

    @model_validator(mode="after")
    def _examples_are_distinct_members(self) -> Self:
        rising = all(one.index < other.index for one, other in pairwise(self.examples))
        if not rising or (self.examples and self.examples[-1].index >= self.training_examples):
            raise ValueError(f"examples: expected rising positions below {self.training_examples}, got other ones")
        return self

    @property
    def indices(self) -> NDArray[np.int64]:
        """Positions of the poisoned examples in the training split, rising, (n,)."""
        return np.array([example.index for example in self.examples], dtype=np.int64)

    @property
    def is_poisoned(self) -> NDArray[np.bool_]:
        """Whether each example of the training split is poisoned, (N,)."""
        flags = np.zeros(self.training_examples, dtype=bool)
        flags[self.indices] = True
        return flags

    @property
    def largest_change(self) -> float:
        """Largest change of a pixel value over all examples."""
        return max((example.largest_change for example in self.examples), default=0.0)

    def spread(self, count: int) -> tuple[PoisonedExample, ...]:
        """Returns up to `count` examples, evenly spaced."""
        size = len(self.examples)
        return self.examples if size <= count else tuple(self.examples[place * size // count] for place in range(count))

    def save(self, path: Path) -> None:
        """Writes the manifest as JSON."""
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Returns the manifest that `save` wrote.

        Raises:
            StoreError: if the file is missing, damaged, or of another schema.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise StoreError(f"{path}: expected a manifest, got {error.strerror}") from error
        except ValidationError as error:
            raise StoreError(f"{path}: {explain(error)[0]}") from error
