"""The base of the poison plug-ins: which examples they may poison, and how. `poisoning/frame.py` draws and measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator

from harness.errors import HarnessError
from harness.images import ImageData, composed
from harness.poisoning.choice import WrittenAsNumber
from harness.poisoning.manifest import Manifest, Target
from harness.poisoning.splits import Selection, images_at
from harness.poisoning.stamp import Stamp
from harness.registry import Plugin, Registry

if TYPE_CHECKING:
    from torch import Tensor, nn


def _read_class_name(value: object, as_text: ValidatorFunctionWrapHandler) -> str:
    name = composed(as_text(value))
    return WrittenAsNumber(name) if isinstance(value, int | WrittenAsNumber) else name


ClassName = Annotated[str, Field(coerce_numbers_to_str=True), WrapValidator(_read_class_name)]
"""A class by its name; a number in a suite file, as for digits, is converted to text."""


@dataclass(frozen=True)
class DrawnExamples:
    """The drawn training examples, with the data, targets, seed and network that a poison crafts them with."""

    data: ImageData
    """The clean data set."""
    indices: NDArray[np.int64]
    """Positions in the training split (n,), rising."""
    targets: tuple[Target, ...]
    """Test examples that a targeted poison aims at."""
    seed: int
    """Seed of every random choice; each poison has its own."""
    network: nn.Module | None
    """A network trained on the clean data, where the poison needs one."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class indices of the examples (n,)."""
        return self.data.splits["train"].labels[self.indices]

    @property
    def classes(self) -> int:
        """The number of classes K."""
        return len(self.data.class_names)

    @property
    def model(self) -> nn.Module:
        """The network.

        Raises:
            HarnessError: if there is none; `Poison.supports` checks that before.
        """
        if self.network is None:
            raise HarnessError("expected a network trained on the clean data, got none")
        return self.network

    def images(self) -> NDArray[np.float32]:
        """Returns the examples' images (n, 3, R, R)."""
        return images_at(self.data.splits["train"], self.indices)

    def target_images(self) -> NDArray[np.float32]:
        """Returns the images of the targets (T, 3, R, R)."""
        return images_at(self.data.splits["test"], np.array([target.index for target in self.targets]))


@dataclass(frozen=True)
class Crafted:
    """The poisoned labels and images of the drawn examples."""

    labels: NDArray[np.int64]
    """New class indices (n,)."""
    images: Tensor | None = None
    """New images (n, 3, R, R), float32 in [0,1], before any stamp; None keeps the original images."""


class Poison(Plugin, ABC):
    """Base of the poison plug-ins: a trigger or perturbation with new labels; the grid gives the rate."""

    HAS_TRIGGER: ClassVar[bool] = False
    """Whether the poison has a trigger for test images, so that `trigger_stamp` and `triggered` return one."""
    HAS_TARGETS: ClassVar[bool] = False
    """Whether it aims at single test images, so that `targets` returns some."""
    NEEDS_MODEL: ClassVar[bool] = False
    """Whether crafting uses a network trained on the clean data."""
    CRAFTS: ClassVar[bool] = False
    """Whether crafted images are held in memory."""

    @abstractmethod
    def eligible(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns which training examples may be poisoned, (N,)."""

    @abstractmethod
    def craft(self, drawn: DrawnExamples) -> Crafted:
        """Returns new labels and, where images are crafted, new images of the drawn examples.

        The frame seeds the global generators, for libraries that use them.
        """

    @abstractmethod
    def check_classes(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        """Raises a SuiteError for unknown classes and for classes without training examples."""

    @property
    def where(self) -> str:
        """The name of this poison in error messages."""
        return f"poisons.{self.name}"

    @property
    def is_targeted(self) -> bool:
        """Whether it wants unchanged test images misclassified, so that `aimed_at` returns some."""
        return self.HAS_TARGETS

    @property
    def conditions(self) -> tuple[str, ...]:
        """The kinds of conditions that measure its success, by their names in `harness.conditions`."""
        return (*("trigger",) * self.HAS_TRIGGER, *("target",) * self.is_targeted)

    @property
    def largest_crafted_change(self) -> float:
        """Largest allowed change (Linf) of a pixel that no trigger covers; the frame checks it."""
        return 0.0

    def target_index(self, class_names: Sequence[str]) -> int | None:
        """Returns the index of the target class, or None if the poison has none."""
        return None

    def trigger_stamp(self, resolution: int) -> Stamp | None:
        """Returns the trigger that test images carry, or None if the poison has none."""
        return None

    def training_stamp(self, resolution: int) -> Stamp | None:
        """Returns the trigger that poisoned training images carry, or None."""
        return None

    def triggered(self, data: ImageData) -> Selection | None:
        """Returns test images with the trigger and their true labels, or None if the poison has no trigger.

        `indices` holds positions in the test split. Examples of the target class are left out: for them the target class is
        the correct prediction, so they cannot show success.
        """
        return None

    def targets(self, data: ImageData, seed: int) -> tuple[Target, ...]:
        """Returns the test examples that a targeted poison aims at; other poisons return none.

        Raises:
            SuiteError: if the test split has too few fitting examples.
        """
        return ()

    def aimed_at(self, data: ImageData, manifest: Manifest) -> NDArray[np.int64]:
        """Returns positions (T,) in the test split of the images that the poison wants misclassified, unchanged.

        For a poison that aims at single images, the manifest lists them.
        """
        return np.array([target.index for target in manifest.targets], dtype=np.int64)

    def supports(self, data: ImageData, rate: float, model: nn.Module | None) -> str | None:
        """Returns None if this poison can be made from these inputs, else the reason why not."""
        if self.NEEDS_MODEL and model is None:
            return f"{self.name} needs a network trained on the clean data, and there is none"
        return None

    def check_rate(self, class_names: Sequence[str], labels: NDArray[np.int64], rate: float) -> None:
        """Raises a SuiteError for a rate in (0, 1] of the training labels (N,) that this poison cannot have."""

    def check_resolution(self, resolution: int) -> None:
        """Raises a SuiteError if the trigger does not fit images of this side length in pixels."""

    def check_test_split(self, data: ImageData) -> None:
        """Raises a SuiteError for a test split on which the poison's success cannot be measured."""


POISONS: Registry[Poison] = Registry(
    "poisons",
    {
        "backdoor": "harness.poisoning.backdoor:Backdoor",
        "clean_label_backdoor": "harness.poisoning.clean_label_backdoor:CleanLabelBackdoor",
        "feature_collision": "harness.poisoning.feature_collision:FeatureCollision",
        "gradient_matching": "harness.poisoning.gradient_matching:GradientMatching",
        "hidden_trigger": "harness.poisoning.hidden_trigger:HiddenTrigger",
        "label_flip": "harness.poisoning.label_flip:LabelFlip",
    },
)
