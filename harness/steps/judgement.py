"""What the steps that judge a model have in common: an outcome, and the examples that it is of."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from harness.images import ImageSplit
from harness.records import Outcome
from harness.steps.base import Context, Step
from harness.storage.outcomes import load_outcome

OUTCOME = "outcome.safetensors"


class Judgement(Step):
    """A step that leaves an outcome: what a model did on some examples, under one or more conditions."""

    FULL_FLOAT32: ClassVar[bool] = True

    @abstractmethod
    def judged(self, context: Context) -> ImageSplit:
        """Returns the examples, in the outcome's order."""

    @property
    def undivided(self) -> Judgement:
        """The same step, with the same digest, in one piece: itself, unless it merges parts."""
        return self

    def outcome(self, context: Context) -> Outcome:
        """Returns the outcome of the finished step."""
        return load_outcome(context.folder(self) / OUTCOME)
