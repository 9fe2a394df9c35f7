"""What a poison plug-in writes: which examples it may take and how it crafts them. The frame draws, judges, records."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from harness.errors import HarnessError, SuiteError
from harness.images import ImageData, ImageSplit
from harness.poisoning.choice import draw, poison_count
from harness.poisoning.frame import measure
from harness.poisoning.manifest import Manifest, PoisonedExample, Target
from harness.poisoning.poisoned import PoisonedData, assemble, load_parts
from harness.poisoning.splits import Selection, images_at
from harness.poisoning.triggers import Stamp
from harness.registry import Plugin, Registry
from harness.system.seeds import global_seed, seed_of

ClassName = Annotated[str, Field(coerce_numbers_to_str=True)]
"""A class by its name; a number in a suite file, as for digits, is read as its text."""

MAX_CRAFTED_BYTES = 2 * 1024**3
"""Largest size of crafted images, which unlike stamped ones are held in memory."""


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

    def check(self, class_names: Sequence[str], labels: NDArray[np.int64], *, resolution: int, rate: float) -> None:
        """Refuses bad input; cheap, so that it can be called before any training.

        Args:
            class_names: The data set's classes.
            labels: Class indices of the training split (N,).
            resolution: Side length of the images in pixels.
            rate: Share of the training split that shall be poisoned.

        Raises:
            SuiteError: if a class is unknown or has no examples, the rate is not in (0, 1], asks for no example or
                for more than can be poisoned, or the trigger does not fit.
        """
        self.check_classes(class_names, labels)
        eligible = int(self.eligible(class_names, labels).sum())
        count = poison_count(rate, len(labels), eligible, where=f"{self.where}.rates")
        size = count * 3 * resolution**2 * np.dtype(np.float32).itemsize
        if self.CRAFTS and size > MAX_CRAFTED_BYTES:
            raise SuiteError(
                f"{self.where}.rates: expected crafted images of {MAX_CRAFTED_BYTES >> 20} MiB at most, "
                f"got {count} of {resolution} x {resolution} pixels, {size >> 20} MiB"
            )

    def check_data(self, data: ImageData, rate: float) -> None:
        """Refuses bad input like `check`, and a test split with too few examples to tell whether the poison works.

        Raises:
            SuiteError: see `check` and `targets`; also if no test image can carry the trigger.
        """
        self.check(data.class_names, data.splits["train"].labels, resolution=_resolution(data), rate=rate)
        self.targets(data, seed=0)
        triggered = self.triggered(data)
        if triggered is not None and not len(triggered):
            raise SuiteError(f"{self.where}: expected test examples that can carry the trigger, got none of the source classes")

    def poison(self, data: ImageData, rate: float, *, seed: int, model: nn.Module | None = None) -> PoisonedData:
        """Poisons a share of the training split.

        Args:
            data: The clean data set.
            rate: Share of the whole training split; `round(rate * N)` examples are drawn without replacement.
            seed: Decides which examples are drawn, and every random choice of the crafting.
            model: A network trained on the clean data, logits (N, K); left as it was found.

        Raises:
            SuiteError: for bad input, see `check_data`, and where `supports` gives a reason.
            HarnessError: if an image was changed where, or more than, the poison may.
        """
        self.check_data(data, rate)
        if reason := self.supports(data, rate, model):
            raise SuiteError(f"{self.where}: {reason}")
        labels = data.splits["train"].labels
        indices = draw(self.eligible(data.class_names, labels), round(rate * len(labels)), seed)
        victims = Victims(data, indices, self.targets(data, seed), seed_of(seed, "poison", self.name), model)
        with global_seed(victims.seed):
            crafted = self.craft(victims)
        stamp = self.training_stamp(_resolution(data))
        examples = self._judged(data.splits["train"], indices, crafted, stamp)
        manifest = self._manifest(victims, examples, rate=rate, seed=seed)
        return assemble(data, manifest, images=crafted.images, stamp=stamp)

    def _manifest(self, victims: Victims, examples: tuple[PoisonedExample, ...], *, rate: float, seed: int) -> Manifest:
        data, names = victims.data, victims.data.class_names
        target, trigger = self.target_index(names), self.trigger_stamp(_resolution(data))
        total = len(data.splits["train"])
        return Manifest(
            poison=self.identity(),
            seed=seed,
            clean_hash=data.content_hash,
            training_examples=total,
            requested_rate=rate,
            realised_rate=len(examples) / total,
            source_classes=tuple(names[label] for label in np.unique(victims.labels)),
            target_class=None if target is None else names[target],
            trigger_sha256=None if trigger is None else trigger.sha256,
            targets=victims.targets,
            examples=examples,
        )

    def _judged(
        self, split: ImageSplit, indices: NDArray[np.int64], crafted: Crafted, stamp: Stamp | None
    ) -> tuple[PoisonedExample, ...]:
        """Measures every poisoned example, one at a time."""
        mask = None if stamp is None else stamp.mask
        examples = []
        for position, (index, label) in enumerate(zip(indices.tolist(), crafted.labels.tolist(), strict=True)):
            image, label_before = split[index]
            poisoned = image if crafted.images is None else crafted.images[position]
            change = measure(
                poisoned if stamp is None else stamp(poisoned),
                image,
                mask=mask,
                eps=self.largest_crafted_change,
                where=f"{self.where}: {split.ids[index]}",
            )
            examples.append(
                PoisonedExample(
                    index=index, id=split.ids[index], label_before=label_before, label_after=label, **change._asdict()
                )
            )
        return tuple(examples)

    def load(self, folder: Path, clean: ImageData) -> PoisonedData:
        """Returns what `PoisonedData.save` wrote, put together with the clean data again.

        Raises:
            StoreError: if it is missing or damaged, or was made from other data.
        """
        manifest, images = load_parts(folder, clean)
        return assemble(clean, manifest, images=images, stamp=self.training_stamp(_resolution(clean)))


def _resolution(data: ImageData) -> int:
    return int(data.splits["train"][0][0].shape[-1])


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
