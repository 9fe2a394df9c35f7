"""The steps that judge a model on images made without its gradient: with a trigger, corrupted, or from a user's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.corruptions.base import Corruption
from harness.corruptions.stream import CorruptedSplit
from harness.datasets.image_folder import FileSplit
from harness.datasets.splits import take
from harness.errors import StepFailed
from harness.images import ImageSplit, Source
from harness.poisoning.base import Poison
from harness.poisoning.splits import Selection
from harness.records import Outcome
from harness.spec import digest_of
from harness.steps.base import Context, Examples, ModelStep, Step
from harness.steps.judgement import OUTCOME, Judgement
from harness.steps.parts import Scoring
from harness.steps.poison import Poisoning
from harness.storage.outcomes import save_outcome
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@dataclass(frozen=True)
class Trigger(Judgement):
    """Scores a model on the test images that carry a poison's trigger; those of the target class are left out."""

    KIND: ClassVar[str] = "trigger"
    VERSION: ClassVar[int] = 1

    model: ModelStep
    label: str
    poison: Poison

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"trigger {self.label} on {self.model.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training."""
        return {"model": self.model}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {"poison": self.poison.identity()}

    def judged(self, context: Context) -> ImageSplit:
        """See `Judgement.judged`."""
        return take(context.data.splits["test"], self.stamped(context).indices)

    def stamped(self, context: Context) -> Selection:
        """Returns the same examples with the trigger."""
        found = self.poison.triggered(context.data)
        if found is None:
            raise StepFailed(f"{self.title}: expected a poison with a trigger, got {self.poison.name}")
        return found

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        stamped = {f"images with the trigger of {self.label}": self.stamped(context)}
        save_outcome(
            _judge(self.model, self.judged(context), stamped, context, what=f"the trigger of {self.label}"), folder / OUTCOME
        )


@dataclass(frozen=True)
class Targeted(Judgement):
    """Scores a model on the test images that its poison aims at.

    The images are not changed: what the poison did is seen against the clean control, the same model trained on the clean
    data. The outcome has the control's predictions where that of another condition has those on clean images.
    """

    KIND: ClassVar[str] = "target"
    VERSION: ClassVar[int] = 1

    model: ModelStep
    control: ModelStep
    poisoning: Poisoning

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"score {self.model.label} on its poison's targets"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training, that of its clean control, whose role in the digest is "twin", and the poison."""
        return {"model": self.model, "twin": self.control, "poison": self.poisoning}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {}

    def judged(self, context: Context) -> ImageSplit:
        """See `Judgement.judged`."""
        manifest = self.poisoning.manifest(context)
        return take(context.data.splits["test"], self.poisoning.poison.aimed_at(context.data, manifest))

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        targets = self.judged(context)
        before, after = (
            _scored(model.classifier(context), targets, context, title=f"the poison's targets, {model.label}")
            for model in (self.control, self.model)
        )
        save_outcome(replace(before, conditions=after.conditions), folder / OUTCOME)


@dataclass(frozen=True)
class Corrupted(Scoring):
    """Scores a model on corrupted examples, at each severity."""

    KIND: ClassVar[str] = "corruption"
    VERSION: ClassVar[int] = 1

    examples: Examples
    label: str
    corruption: Corruption
    seed: int

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return self.named(f"corrupt with {self.label}, score {self.model.label}")

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {"examples": self.examples.json(), "corruption": self.corruption.identity(), "seed": self.seed}

    def all_examples(self, context: Context) -> ImageSplit:
        """See `Divisible.all_examples`."""
        return self.examples.of(context.data)

    def cost(self, classes: int) -> int:
        """See `Divisible.cost`: a clean pass, and one at each severity."""
        return 1 + len(self.corruption.severities)

    def computed(self, context: Context) -> Outcome:
        """See `Divisible.computed`."""
        clean = self.judged(context)
        damaged = {
            self.named(f"{self.label} {severity}"): self.damaged(clean, severity) for severity in self.corruption.severities
        }
        what = self.named(self.label)
        return _judge(self.model, clean, damaged, context, what=what, whole=self.whole(context))

    def damaged(self, clean: ImageSplit, severity: int) -> ImageSplit:
        """Returns the corrupted images of some examples; the random draws of each are keyed by its content."""
        return CorruptedSplit(self.corruption, clean, severity=severity, seed=seed_of(self.seed, "corruption"))


@dataclass(frozen=True)
class FromFolder(Scoring):
    """Scores a model on other images of its classes, as they are; the outcome has them as its clean images too."""

    KIND: ClassVar[str] = "folder"
    VERSION: ClassVar[int] = 1

    label: str
    images: FileSplit

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return self.named(f"score {self.model.label} on the folder {self.label}")

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`; files count by content and class, in their order."""
        content = [self.images.labels.tolist(), list(self.images.hashes)]
        return {"images": digest_of(content), "resolution": self.images.resolution, "resize": self.images.resize}

    def all_examples(self, context: Context) -> ImageSplit:
        """See `Divisible.all_examples`."""
        return self.images

    def files_read(self, context: Context) -> tuple[Source, ...]:
        """See `Step.files_read`; the folder too."""
        own = self.images.source
        return super().files_read(context) + (() if own is None else (own,))

    def cost(self, classes: int) -> int:
        """See `Divisible.cost`."""
        return 1

    def computed(self, context: Context) -> Outcome:
        """See `Divisible.computed`."""
        images, title = self.judged(context), self.named(f"folder {self.label}")
        return _scored(self.model.classifier(context), images, context, title=title, whole=self.whole(context))


def _judge(
    model: ModelStep,
    clean: ImageSplit,
    conditions: Mapping[str, ImageSplit],
    context: Context,
    *,
    what: str,
    whole: ImageSplit | None = None,
) -> Outcome:
    """Returns the outcome of a model on clean images and, as one condition each, on other versions of them.

    Args:
        model: The model.
        clean: The images as they are.
        conditions: Their other versions, by what progress displays call them.
        context: Where to run.
        what: What was done to them.
        whole: See `harness.evaluation.clean.evaluate_clean`.
    """
    network = model.classifier(context)
    splits = {f"the images without {what}": clean, **conditions}
    before, *after = [_scored(network, split, context, title=title, whole=whole) for title, split in splits.items()]
    return replace(before, conditions=tuple(outcome.conditions[0] for outcome in after))


def _scored(network: Classifier, split: ImageSplit, context: Context, *, title: str, whole: ImageSplit | None = None) -> Outcome:
    """Returns the outcome on some images; the network itself is probed once, by the step that scores the clean ones."""
    from harness.evaluation.clean import evaluate_clean

    return evaluate_clean(
        network,
        split,
        batch_size=context.batch_size,
        device=context.device,
        probes=0,
        progress=context.progress,
        title=title,
        whole=whole,
    )
