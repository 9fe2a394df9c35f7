"""A sweep in parts: each part of the examples is a step of its own, and another one merges what they left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.datasets.splits import take
from harness.images import ImageSplit
from harness.records import Outcome
from harness.steps.base import Context, Step
from harness.steps.evaluate import Sweep
from harness.steps.judgement import OUTCOME
from harness.storage.outcomes import save_outcome

if TYPE_CHECKING:
    from harness.evaluation.ledger import Keep


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

    def attacked(self, context: Context, keep: Keep | None = None) -> Outcome:
        """Attacks the model on this part; the attack with twice the steps is for the whole."""
        from harness.evaluation.sweep import sweep

        return sweep(
            self.model.classifier(context),
            self.judged(context),
            self.settings_for(context.data.class_names),
            batch_size=context.batch_size,
            device=context.device,
            keep=keep,
            probes=0,
            progress=context.progress,
            title=f"{self.label}, part {self.number} of {self.count}",
            whole=super().judged(context),
        )


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
        """See `Step.run`; a part that is not stored, as the merged outcome was, is attacked here."""
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
