"""The step that trains one model of the grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.images import ImageData
from harness.models.base import Architecture, told_before
from harness.poisoning.detectors.filtering import filtered
from harness.steps.base import Context, DataIdentity, Step
from harness.steps.detect import Detect
from harness.steps.poison import Poisoning, TrainedModel
from harness.storage.store import read_json, write_json
from harness.system.seeds import seed_of
from harness.training.history import summarise
from harness.training.recipes.base import Recipe

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

WEIGHTS = "model.safetensors"
HISTORY = "history.json"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Train(TrainedModel):
    """Trains an architecture by a recipe and keeps the chosen weights, the history and a summary."""

    KIND: ClassVar[str] = "train"
    VERSION: ClassVar[int] = 1

    label: str
    architecture: Architecture
    recipe: Recipe
    data: DataIdentity
    resolution: int
    seed: int
    warm_start: Train | None = None
    poison: Poisoning | None = None
    filtered_by: Detect | None = None
    """The detection whose suspects are left out of the training split."""
    devices: int = 1
    """Devices that share each batch."""

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"train {self.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model it starts from, and the poison of its training set with what it is filtered by."""
        found: dict[str, Step | None] = {"warm_start": self.warm_start, "poison": self.poison, "filter": self.filtered_by}
        return {role: step for role, step in found.items() if step is not None}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        several = {"devices": self.devices} if self.devices > 1 else {}  # keeps the digests of earlier versions for one
        return {
            "architecture": self.architecture.identity(),
            "recipe": self.recipe.identity(),
            "data": self.data.json(),
            "seed": self.seed,
            **several,
        }

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        from harness.models.weights import save_safetensors
        from harness.training.loop import train
        from harness.training.parallel import train_on_devices

        classifier = self._initial(context)
        result = train_on_devices(
            train,
            classifier,
            self._data(context),
            self.recipe,
            devices=self.devices,
            seed=seed_of(self.seed, "train"),
            device=context.device,
            workers=context.workers,
            checkpoint=context.store.partial(self.digest),
            progress=context.progress,
        )
        save_safetensors(classifier, folder / WEIGHTS)
        write_json(folder / HISTORY, {"epochs": list(result.history)})
        write_json(folder / SUMMARY, {"best_epoch": result.best_epoch, **result.summary})

    def _data(self, context: Context) -> ImageData:
        data = context.data if self.poison is None else self.poison.poisoned(context)
        return data if self.filtered_by is None else filtered(data, self.filtered_by.suspicious(context))

    def _initial(self, context: Context) -> Classifier:
        if self.warm_start is not None:
            return self._with_weights_of(self.warm_start, context)
        seed = seed_of(self.seed, "initialise")
        with told_before():  # a run builds each network that starts from a file before its first step
            return self.architecture.build(context.data.class_names, resolution=self.resolution, seed=seed)

    def classifier(self, context: Context) -> Classifier:
        """See `ModelStep.classifier`."""
        return self._with_weights_of(self, context)

    def _with_weights_of(self, training: Train, context: Context) -> Classifier:
        from safetensors.torch import load_file

        skeleton = self.architecture.without_weights().build(context.data.class_names, resolution=self.resolution, seed=0)
        skeleton.load_state_dict(load_file(context.folder(training) / WEIGHTS))
        return skeleton.to(context.device).eval()

    def summary(self, context: Context) -> dict[str, Any]:
        """Returns what `summarise` makes of the finished training, and `best_epoch`, the one whose weights are kept."""
        best_epoch = read_json(context.folder(self) / SUMMARY)["best_epoch"]
        recipe = self.recipe
        found = summarise(self.history(context), best_epoch, recipe.epochs, recipe.keep_by, validation=recipe.validation)
        return {"best_epoch": best_epoch, **found}

    def history(self, context: Context) -> tuple[dict[str, float], ...]:
        """Returns one mapping an epoch of the finished training."""
        return tuple(read_json(context.folder(self) / HISTORY)["epochs"])
