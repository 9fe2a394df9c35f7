"""The steps that judge a model: on clean images, and under one attack over a sweep of budgets, which may be cut into parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.datasets.splits import take
from harness.evaluation.settings import SweepSettings
from harness.images import ImageSplit
from harness.records import Outcome
from harness.steps.base import Context, Examples, ModelStep, Step
from harness.steps.judgement import OUTCOME, Judgement
from harness.storage.outcomes import save_outcome
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    from harness.evaluation.ledger import Keep

ROUNDING_FORMS = 2
"""Version of attacks on inference forms that round; 2: an image is adversarial only if it is for the network itself."""


@dataclass(frozen=True)
class Evaluate(Judgement):
    """Scores a trained model on the clean examples."""

    KIND: ClassVar[str] = "clean"
    VERSION: ClassVar[int] = 1

    model: ModelStep
    examples: Examples

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"score {self.model.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training."""
        return {"model": self.model}

    def judged(self, context: Context) -> ImageSplit:
        """See `Judgement.judged`."""
        return self.examples.of(context.data)

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {"examples": self.examples.json()}

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        from harness.evaluation.clean import evaluate_clean

        outcome = evaluate_clean(
            self.model.classifier(context),
            self.judged(context),
            batch_size=context.batch_size,
            device=context.device,
            progress=context.progress,
        )
        save_outcome(outcome, folder / OUTCOME)


@dataclass(frozen=True)
class Sweep(Judgement):
    """Attacks a trained model at rising budgets."""

    KIND: ClassVar[str] = "attack"
    VERSION: ClassVar[int] = 1

    model: ModelStep
    examples: Examples
    label: str
    settings: SweepSettings
    """How it is attacked, by the suite's seed; the index of the target class is known once the data are, see `settings_for`."""
    target_class: str | None = None
    """Name of the class that the attack aims at, where the threat models are targeted."""

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"attack {self.model.label} with {self.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training."""
        return {"model": self.model}

    @property
    def undivided(self) -> Sweep:
        """See `Judgement.undivided`."""
        return self

    def judged(self, context: Context) -> ImageSplit:
        """See `Judgement.judged`."""
        return self.examples.of(context.data)

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {
            "examples": self.examples.json(),
            "attack": self.settings.attack.identity(),
            "threat_models": [threat.model_dump(mode="json") for threat in self.settings.threat_models],
            "protocol": self.settings.protocol,
            "best_of_iterates": self.settings.best_of_iterates,
            "seed": self.settings.seed,
            **({} if self.target_class is None else {"target_class": self.target_class}),
            **({"inference": form} if (form := self._form()) else {}),
            **({"by_example": True} if self.settings.by_example else {}),
        }

    def _form(self) -> Mapping[str, Any]:
        """Returns what the form of the network adds to the identity; its version counts where it rounds."""
        inference = self.settings.inference
        fields = inference.settings()
        return {**fields, "version": ROUNDING_FORMS} if inference.precision != "float32" else fields

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        save_outcome(self.attacked(context), folder / OUTCOME)

    def target_index(self, class_names: Sequence[str]) -> int | None:
        """Returns the index of the class that the attack aims at, or None where it aims at none."""
        return None if self.target_class is None else class_names.index(self.target_class)

    def settings_for(self, class_names: Sequence[str]) -> SweepSettings:
        """Returns the settings on data with these classes, by the seed of the attack."""
        seed = seed_of(self.settings.seed, "attack")
        return replace(self.settings, seed=seed, target_class=self.target_index(class_names))

    def attacked(self, context: Context, keep: Keep | None = None) -> Outcome:
        """Attacks the model; `keep` receives the final images of every example and budget."""
        from harness.evaluation.sweep import sweep

        return sweep(
            self.model.classifier(context),
            self.judged(context),
            self.settings_for(context.data.class_names),
            batch_size=context.batch_size,
            device=context.device,
            keep=keep,
            progress=context.progress,
            **{"title": self.label, **self.only_here(context)},
        )

    def only_here(self, context: Context) -> Mapping[str, Any]:
        """Returns further arguments of `harness.evaluation.sweep.sweep`."""
        return {}


@dataclass(frozen=True)
class PartOfSweep(Sweep):
    """Attacks a trained model at rising budgets, on some of the examples, by example."""

    first: int = 0
    """Position of its first example among those that are judged."""
    end: int = 0
    """Position behind its last one."""
    number: int = 1
    """Which part it is, from 1."""
    count: int = 1
    """How many there are."""

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"{super().title}, part {self.number} of {self.count}"

    def judged(self, context: Context) -> ImageSplit:
        """See `Judgement.judged`."""
        return take(super().judged(context), np.arange(self.first, self.end))

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`; how many parts there are does not count."""
        return {**super().identity(), "part": [self.first, self.end]}

    def only_here(self, context: Context) -> Mapping[str, Any]:
        """See `Sweep.only_here`: the attack with twice the steps is for the whole."""
        title = f"{self.label}, part {self.number} of {self.count}"
        return {"title": title, "probes": 0, "whole": super().judged(context)}


@dataclass(frozen=True)
class MergedSweep(Sweep):
    """Merges the parts of a sweep: its digest and its outcome are those of the sweep as one step."""

    parts: tuple[PartOfSweep, ...] = ()
    """Of all examples, in their order."""

    @property
    def undivided(self) -> Sweep:
        """See `Judgement.undivided`."""
        return Sweep(self.model, self.examples, self.label, self.settings, self.target_class)

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training, and the parts."""
        return {**super().inputs, **{f"part-{part.number}": part for part in self.parts}}

    def spec(self) -> dict[str, Any]:
        """Returns what the digest is taken over: into which parts the examples are cut changes nothing."""
        return self.undivided.spec()

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`. Where the merged outcome was damaged parts may be missing; these are attacked here, and not stored."""
        from harness.evaluation.parts import merged
        from harness.evaluation.sweep import completed

        outcome = completed(
            self.model.classifier(context),
            self.judged(context),
            self.settings_for(context.data.class_names),
            merged([_outcome_of(part, context) for part in self.parts]),
            batch_size=context.batch_size,
            device=context.device,
            progress=context.progress,
            title=self.label,
        )
        save_outcome(outcome, folder / OUTCOME)


def in_parts(sweep: Sweep, *, count: int, size: int) -> Sweep:
    """Returns a sweep by example as the step that merges its parts of `size` of its `count` examples; itself if that is one."""
    firsts = range(0, count, size)
    if len(firsts) <= 1:
        return sweep
    own = (sweep.model, sweep.examples, sweep.label, sweep.settings, sweep.target_class)
    spans = ((first, min(first + size, count)) for first in firsts)
    return MergedSweep(
        *own, parts=tuple(PartOfSweep(*own, *span, number, len(firsts)) for number, span in enumerate(spans, start=1))
    )


def _outcome_of(part: PartOfSweep, context: Context) -> Outcome:
    entry = context.entry(part)
    whole = entry is not None and not context.store.damaged_files(entry)
    return part.outcome(context) if whole else part.attacked(context)
