"""The steps that judge a model: on clean images, and under one attack over a sweep of budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from harness.attacks.passes import Passes
from harness.evaluation.settings import SweepSettings
from harness.images import ImageSplit
from harness.records import Outcome
from harness.steps.base import Context, Examples
from harness.steps.parts import Divisible, Scoring
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    from harness.evaluation.ledger import Keep

ROUNDING_FORMS = 2
"""Version of attacks on inference forms that round; 2: an image is adversarial only if it is for the network itself."""


@dataclass(frozen=True)
class Evaluate(Scoring):
    """Scores a trained model on the clean examples."""

    KIND: ClassVar[str] = "clean"
    VERSION: ClassVar[int] = 1

    examples: Examples

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return self.named(f"score {self.model.label}")

    def all_examples(self, context: Context) -> ImageSplit:
        """See `Divisible.all_examples`."""
        return self.examples.of(context.data)

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {"examples": self.examples.json()}

    def cost(self, classes: int) -> int:
        """See `Divisible.cost`."""
        return 1

    def computed(self, context: Context) -> Outcome:
        """See `Divisible.computed`: the network is probed on the whole."""
        from harness.evaluation.clean import evaluate_clean

        return evaluate_clean(
            self.model.classifier(context),
            self.judged(context),
            batch_size=context.batch_size,
            device=context.device,
            progress=context.progress,
            title=self.named("clean images"),
            whole=self.whole(context),
            **({} if self.span is None else {"probes": 0}),
        )

    def completed(self, context: Context, found: Outcome) -> Outcome:
        """See `Divisible.completed`: the network is probed."""
        from harness.evaluation.clean import completed

        return completed(
            self.model.classifier(context),
            self.judged(context),
            found,
            batch_size=context.batch_size,
            device=context.device,
            progress=context.progress,
        )


@dataclass(frozen=True)
class Sweep(Divisible):
    """Attacks a trained model at rising budgets."""

    KIND: ClassVar[str] = "attack"
    VERSION: ClassVar[int] = 1

    examples: Examples
    label: str
    settings: SweepSettings
    """How it is attacked, by the suite's seed; the index of the target class is known once the data are, see `settings_for`."""
    target_class: str | None = None
    """Name of the class that the attack aims at, where the threat models are targeted."""

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return self.named(f"attack {self.model.label} with {self.label}")

    def all_examples(self, context: Context) -> ImageSplit:
        """See `Divisible.all_examples`."""
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

    def cost(self, classes: int) -> int:
        """See `Divisible.cost`: a clean pass, and at each budget those of the attack, where it says so, and one that judges."""
        attack = self.settings.attack
        budgets = 1 if attack.MINIMUM_NORM else len(self.settings.threat_models)
        each = (attack.most_passes(classes) or Passes(0)).and_also(Passes(1))
        return Passes(1).and_also(each.times(budgets)).cost

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

        of_a_part: dict[str, Any] = {} if self.span is None else {"probes": 0, "whole": self.all_examples(context)}
        return sweep(
            self.model.classifier(context),
            self.judged(context),
            self.settings_for(context.data.class_names),
            batch_size=context.batch_size,
            device=context.device,
            keep=keep,
            progress=context.progress,
            title=self.named(self.label),
            **of_a_part,
        )

    def computed(self, context: Context) -> Outcome:
        """See `Divisible.computed`: the attack with twice the steps is for the whole."""
        return self.attacked(context)

    def completed(self, context: Context, found: Outcome) -> Outcome:
        """See `Divisible.completed`: the attack is run with twice the steps on a few examples."""
        from harness.evaluation.sweep import completed

        return completed(
            self.model.classifier(context),
            self.judged(context),
            self.settings_for(context.data.class_names),
            found,
            batch_size=context.batch_size,
            device=context.device,
            progress=context.progress,
            title=self.label,
        )
