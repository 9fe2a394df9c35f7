"""What a poison plug-in writes: which examples it may take and how it crafts them. `poisoning/frame.py` draws and judges."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.images import ImageData, composed
from harness.poisoning.choice import WrittenAsNumber
from harness.poisoning.manifest import Manifest, Target
from harness.poisoning.splits import Selection, images_at
from harness.poisoning.triggers import Stamp
from harness.registry import Plugin, Registry


def _read_class_name(value: object, as_text: ValidatorFunctionWrapHandler) -> str:
    name = composed(as_text(value))
    return WrittenAsNumber(name) if isinstance(value, int | WrittenAsNumber) else name


ClassName = Annotated[str, Field(coerce_numbers_to_str=True), WrapValidator(_read_class_name)]
"""A class by its name; a number in a suite file, as for digits, is read as its text."""


@dataclass(frozen=True)
class Victims:
    """The drawn training examples, and what a poison may use to craft them."""

    data: ImageData
    """The clean data set."""
    indices: NDArray[np.int64]
    """Positions in the training split (n,), rising."""
    targets: tuple[Target, ...]
    """Test examples that a targeted poison aims at."""
    seed: int
    """Seed of every random choice; of this poison alone."""
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
            HarnessError: if there is none, although `Poison.supports` must have asked for it.
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
    """What a poison made of the drawn examples."""

    labels: NDArray[np.int64]
    """New class indices (n,)."""
    images: Tensor | None = None
    """New images (n, 3, R, R), float32 in [0,1], before any stamp; None where the originals stay."""


class Poison(Plugin, ABC):
    """Base of the poison plug-ins: a trigger or perturbation with a label map; the rate comes from the grid."""

    HAS_TRIGGER: ClassVar[bool] = False
    """Whether test images can carry a trigger: whether `trigger_stamp` and `triggered` give one."""
    HAS_TARGETS: ClassVar[bool] = False
    """Whether it aims at single test images: whether `targets` names any."""
    NEEDS_MODEL: ClassVar[bool] = False
    """Whether crafting uses a network: one trained on the clean data."""
    CRAFTS: ClassVar[bool] = False
    """Whether images are crafted one by one, and so held in memory."""

    @abstractmethod
    def eligible(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns which training examples may be poisoned, (N,)."""

    @abstractmethod
    def craft(self, victims: Victims) -> Crafted:
        """Returns new labels and, where images are crafted, new images of the drawn examples.

        Runs with the global generators seeded, for libraries that draw from them.
        """

    @abstractmethod
    def check_classes(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> None:
        """Refuses unknown classes and classes without training examples by a SuiteError."""

    @property
    def where(self) -> str:
        """How errors name this poison."""
        return f"poisons.{self.name}"

    @property
    def is_targeted(self) -> bool:
        """Whether it wants test images misclassified as they are: whether `aimed_at` gives any."""
        return self.HAS_TARGETS

    @property
    def conditions(self) -> tuple[str, ...]:
        """The kinds of conditions that tell whether it works, by the name in `harness.conditions`."""
        return (*("trigger",) * self.HAS_TRIGGER, *("target",) * self.is_targeted)

    @property
    def largest_crafted_change(self) -> float:
        """Largest change (Linf) of a pixel that no trigger covers; the frame enforces it."""
        return 0.0

    def target_index(self, class_names: Sequence[str]) -> int | None:
        """Returns the class that predictions shall become, or None if the poison wants no certain one."""
        return None

    def trigger_stamp(self, resolution: int) -> Stamp | None:
        """Returns the trigger that test images carry, or None if the poison has none."""
        return None

    def training_stamp(self, resolution: int) -> Stamp | None:
        """Returns the trigger that poisoned training images carry, or None."""
        return None

    def triggered(self, data: ImageData) -> Selection | None:
        """Returns test images with the trigger, or None if the poison has none.

        True labels and, in `indices`, positions in the test split are kept. Examples of the target class are left
        out: a model is right to call them that, so they say nothing about the success of the attack.
        """
        return None

    def targets(self, data: ImageData, seed: int) -> tuple[Target, ...]:
        """Returns the test examples that a targeted poison aims at; none for the others.

        Raises:
            SuiteError: if the test split has too few that fit.
        """
        return ()

    def aimed_at(self, data: ImageData, manifest: Manifest) -> NDArray[np.int64]:
        """Returns positions in the test split of the images that the poison wants misclassified as they are (T,).

        Of a poison that names single images, those that its manifest lists.
        """
        return np.array([target.index for target in manifest.targets], dtype=np.int64)

    def supports(self, data: ImageData, rate: float, model: nn.Module | None) -> str | None:
        """Returns None if this poison can be made, else the reason why not."""
        if self.NEEDS_MODEL and model is None:
            return f"{self.name} needs a network trained on the clean data, and there is none"
        return None

    def check_rate(self, class_names: Sequence[str], labels: NDArray[np.int64], rate: float) -> None:
        """Refuses, by a SuiteError, a rate in (0, 1] of the training labels (N,) that this poison in particular can't have."""

    def check_resolution(self, resolution: int) -> None:
        """Refuses, by a SuiteError, images of a side length in pixels that the trigger does not fit."""

    def check_test_split(self, data: ImageData) -> None:
        """Refuses, by a SuiteError, a test split that can't tell whether the poison works."""


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
