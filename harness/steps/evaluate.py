"""The steps that judge a model: on clean images, and under one attack over a sweep of budgets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.attacks.base import Attack
from harness.evaluation.protocol import evaluate_clean, sweep
from harness.records import save_outcome
from harness.seeds import seed_of
from harness.steps.base import Context, Examples, Step
from harness.steps.train import Train, load_classifier
from harness.threat import ThreatModel

OUTCOME = "outcome.safetensors"


@dataclass(frozen=True)
class Evaluate(Step):
    """Scores a trained model on the clean examples."""

    KIND: ClassVar[str] = "clean"
    VERSION: ClassVar[int] = 1

    model: Train
    examples: Examples

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"score {self.model.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training."""
        return {"model": self.model}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {"examples": self.examples.json()}

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        outcome = evaluate_clean(
            load_classifier(self.model, context),
            self.examples.of(context.data),
            batch_size=context.batch_size,
            device=context.device,
            progress=context.progress,
        )
        save_outcome(outcome, folder / OUTCOME)


@dataclass(frozen=True)
class Sweep(Step):
    """Attacks a trained model at rising budgets."""

    KIND: ClassVar[str] = "attack"
    VERSION: ClassVar[int] = 1

    model: Train
    examples: Examples
    label: str
    attack: Attack
    threat_models: tuple[ThreatModel, ...]
    protocol: Literal["nested", "independent"]
    best_of_iterates: bool
    seed: int

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"attack {self.model.label} with {self.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training."""
        return {"model": self.model}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {
            "examples": self.examples.json(),
            "attack": self.attack.identity(),
            "threat_models": [threat.model_dump(mode="json") for threat in self.threat_models],
            "protocol": self.protocol,
            "best_of_iterates": self.best_of_iterates,
            "seed": self.seed,
        }

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        outcome = sweep(
            load_classifier(self.model, context),
            self.examples.of(context.data),
            self.attack,
            threat_models=self.threat_models,
            protocol=self.protocol,
            watch=self.best_of_iterates,
            seed=seed_of(self.seed, "attack"),
            batch_size=context.batch_size,
            device=context.device,
            progress=context.progress,
        )
        save_outcome(outcome, folder / OUTCOME)
