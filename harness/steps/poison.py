"""The step that poisons a training set."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.images import ImageData
from harness.models.base import Architecture
from harness.poisoning.base import Poison
from harness.poisoning.frame import load_poisoned, poison_data
from harness.poisoning.manifest import Manifest
from harness.poisoning.poisoned import MANIFEST, PoisonedData
from harness.steps.base import Context, DataIdentity, ModelStep, Step
from harness.system.seeds import seed_of


@dataclass(frozen=True)
class Poisoning(Step):
    """Poisons a share of the training split; keeps the manifest, and crafted images where there are any."""

    KIND: ClassVar[str] = "poison"
    VERSION: ClassVar[int] = 1

    label: str
    poison: Poison
    rate: float
    data: DataIdentity
    seed: int
    proxy: ModelStep | None = None
    """The training of the clean model that crafting uses, where the poison needs one."""

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"poison {100 * self.rate:g} % with {self.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The training of the model that crafting uses."""
        return {} if self.proxy is None else {"proxy": self.proxy}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {"poison": self.poison.identity(), "rate": self.rate, "data": self.data.json(), "seed": self.seed}

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        model = None if self.proxy is None else self.proxy.classifier(context)
        seed = seed_of(self.seed, "poison")
        poison_data(self.poison, context.data, self.rate, seed=seed, model=model).save(folder)

    def load(self, context: Context) -> PoisonedData:
        """Returns what the finished step made of the clean data."""
        return load_poisoned(self.poison, context.folder(self), context.data)

    def poisoned(self, context: Context) -> ImageData:
        """Returns the poisoned data of the finished step."""
        return self.load(context).data

    def manifest(self, context: Context) -> Manifest:
        """Returns what the finished step poisoned."""
        return Manifest.load(context.folder(self) / MANIFEST)


class TrainedModel(ModelStep):
    """A model of the grid, whose training set may be poisoned: one that is trained, or a finished one."""

    architecture: Architecture
    """Its network."""
    resolution: int
    """Side length of its images in pixels."""
    poison: Poisoning | None
    """The poison of its training set, or None."""

    @property
    def poisoning(self) -> Poisoning:
        """The poison of its training set.

        Raises:
            ValueError: if it has none.
        """
        if self.poison is None:
            raise ValueError(f"{self.title}: expected a poisoned training set, got the clean one")
        return self.poison
