"""Judgements that may be cut into parts of their examples: each part is a step, and another one merges what they found."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from harness.datasets.splits import take
from harness.evaluation.parts import merged
from harness.steps.base import Context, ModelStep, Step
from harness.steps.judgement import OUTCOME, Judgement
from harness.storage.outcomes import save_outcome

if TYPE_CHECKING:
    from harness.images import ImageSplit
    from harness.records import Outcome

WASTEFUL = 2
"""How many times the images of a part a full batch has where most of a pass is in vain."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Span:
    """Which of the examples a part is of."""

    first: int
    """Position of its first example among those that are judged."""
    end: int
    """Position behind its last one."""
    number: int
    """Which part it is, from 1."""
    count: int
    """How many there are."""

    def __len__(self) -> int:
        return self.end - self.first

    def __str__(self) -> str:
        return f"part {self.number} of {self.count}"


@dataclass(frozen=True)
class Divisible(Judgement):
    """A judgement by example: of all examples, of those of one part, or of all by merging the parts.

    The digest and the outcome of the step that merges are those of one step of all examples. What becomes of an example may
    depend on no other one, or the step may not be cut.
    """

    model: ModelStep
    span: Span | None = field(default=None, kw_only=True)
    """Of a part: which of the examples it is of."""
    parts: tuple[Self, ...] = field(default=(), kw_only=True)
    """Of the step that merges: its parts, of all examples in their order."""

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training, and the parts that are merged."""
        return {"model": self.model, **{f"part-{number}": part for number, part in enumerate(self.parts, start=1)}}

    @property
    def undivided(self) -> Self:
        """See `Judgement.undivided`."""
        return replace(self, parts=()) if self.parts else self

    def named(self, text: str) -> str:
        """Returns a title of the step, with the part that it is."""
        return text if self.span is None else f"{text}, {self.span}"

    def spec(self) -> dict[str, Any]:
        """See `Step.spec`: into how many parts the examples are cut changes nothing."""
        if self.parts:
            return self.undivided.spec()
        spec = super().spec()
        return spec if self.span is None else _with(spec, part=[self.span.first, self.span.end])

    def judged(self, context: Context) -> ImageSplit:
        """See `Judgement.judged`."""
        examples = self.all_examples(context)
        return examples if self.span is None else take(examples, np.arange(self.span.first, self.span.end))

    @abstractmethod
    def all_examples(self, context: Context) -> ImageSplit:
        """Returns the examples of all parts."""

    @abstractmethod
    def cost(self, classes: int) -> int:
        """Returns what an example costs at most among so many classes, in forward passes."""

    @abstractmethod
    def computed(self, context: Context) -> Outcome:
        """Computes the outcome; that of a part lacks what is done once, on all examples."""

    def completed(self, context: Context, found: Outcome) -> Outcome:
        """Returns the merged outcome of the parts with what is done once, on all examples; by default nothing is."""
        return found

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`. Where the merged outcome was damaged parts may be missing; these are computed here, and not stored."""
        if self.parts:
            outcome = self.completed(context, merged([_outcome_of(part, context) for part in self.parts]))
        else:
            outcome = self.computed(context)
            self._warn_of_filling(outcome)
        save_outcome(outcome, folder / OUTCOME)

    def _warn_of_filling(self, outcome: Outcome) -> None:
        """Logs, once for all parts, that most of each pass is in vain: on GPUs a batch may be far larger than a part."""
        size = outcome.conditions[0].evidence.batch_size
        if self.span is not None and self.span.number == 1 and size >= WASTEFUL * len(self.span):
            hint = "larger parts (evaluation.shard) or smaller batches (evaluation.batch_size) take less time"
            logger.warning("%s: %d images, in passes filled up to %d; %s", self.title, len(self.span), size, hint)


@dataclass(frozen=True)
class Scoring(Divisible):
    """Scores a model on images, one pass of each in each condition."""

    by_example: bool = field(default=False, kw_only=True)
    """Whether all passes have the size of a full batch, so that an image's logits depend on no other one; parts need it."""

    def spec(self) -> dict[str, Any]:
        """See `Step.spec`."""
        return _with(super().spec(), by_example=True) if self.by_example else super().spec()

    def whole(self, context: Context) -> ImageSplit | None:
        """Returns the argument `whole` of `harness.evaluation.clean.evaluate_clean`."""
        return self.all_examples(context) if self.by_example else None


DivisibleT = TypeVar("DivisibleT", bound=Divisible)


def in_parts(step: DivisibleT, *, count: int, size: int) -> DivisibleT:
    """Returns a step by example as the one that merges its parts of `size` of its `count` examples; itself if that is one."""
    firsts = range(0, count, size)
    if len(firsts) <= 1:
        return step
    spans = (Span(first, min(first + size, count), number, len(firsts)) for number, first in enumerate(firsts, start=1))
    return replace(step, parts=tuple(replace(step, span=span) for span in spans))


def _with(spec: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Returns what a digest is taken over with further fields of the identity."""
    return {**spec, "identity": {**spec["identity"], **fields}}


def _outcome_of(part: Divisible, context: Context) -> Outcome:
    entry = context.entry(part)
    whole = entry is not None and not context.store.damaged_files(entry)
    return part.outcome(context) if whole else part.computed(context)
