"""The state of a training run between epochs, and the work of one epoch."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import cast

from torch import Tensor
from torch.utils.data import DataLoader

from harness.datasets.loading import ShuffledBatches, evaluation_batches, training_batches
from harness.datasets.splits import Joined
from harness.errors import HarnessError
from harness.images import ImageData
from harness.models.classifier import Classifier
from harness.models.layout import quick_layout
from harness.models.state import state_of
from harness.system.progress import Advance
from harness.system.seeds import generator_of, global_seed, seed_of
from harness.training.checkpoint import Snapshot
from harness.training.history import REDUCED, Row, catastrophic_overfitting, validated
from harness.training.learner import Learner, below
from harness.training.processes import Processes
from harness.training.recipes.adversarial import AdversarialRecipe
from harness.training.recipes.base import Recipe
from harness.training.totals import Totals
from harness.training.validation import Probe, Validation, validate

CLEAN_EVERY = 8
"""Every so many batches the accuracy on clean training images is measured, which costs a forward pass."""


def images_at_once(recipe: Recipe, data: ImageData) -> int:
    """Returns the most images of an update that a recipe has in memory at a time."""
    learned = ("train", "validation") if recipe.validation == "learned" else ("train",)
    count = sum(len(data.splits[name]) for name in learned)
    return min(recipe.micro_batch or recipe.batch_size, recipe.batch_size, count)


class Run:
    """A training run between two epochs.

    Args: see `harness.training.loop.train`.
    """

    def __init__(
        self,
        model: Classifier,
        data: ImageData,
        recipe: Recipe,
        *,
        seed: int,
        workers: int,
        processes: Processes,
        reduced_to: int | None = None,
    ) -> None:
        """See the class; `reduced_to` takes the place of `Recipe.micro_batch` where memory is short."""
        self.recipe, self.seed, self.processes = recipe, seed, processes
        self.history: list[Row] = []
        self.best_epoch = 0
        self.best_rank: tuple[float, float] | None = None
        self.best_weights: Mapping[str, Tensor] = {}
        train_split, validation_split = data.splits["train"], data.splits["validation"]
        if recipe.validation == "learned":
            train_split = Joined(train_split, validation_split)
        self.reduced_to = reduced_to
        size = reduced_to or images_at_once(recipe, data)
        batches = training_batches(
            train_split,
            augment=recipe.augment,
            batch_size=recipe.batch_size,
            seed=seed,
            epoch=1,
            workers=workers,
            class_balance=recipe.class_balance,
        )
        self._training = processes.share(batches, in_step=True)
        batches = evaluation_batches(validation_split, batch_size=size, workers=workers)
        self._validation = processes.share(batches, in_step=False)
        total = recipe.epochs * len(self._training)
        example = self._here(train_split[0][0].expand(size, -1, -1, -1))
        self.learner = Learner(model, recipe, total, processes=processes, example=example, micro_batch=size)

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, or `Recipe.patience` epochs have passed without a better one."""
        waited = len(self.history) - self.best_epoch
        return len(self.history) == self.recipe.epochs or (self.recipe.patience is not None and waited >= self.recipe.patience)

    def epoch(self, advance: Advance) -> None:
        """Runs one more pass over the training split, validates, and keeps the weights if they are the best."""
        number, started = len(self.history) + 1, time.perf_counter()
        with global_seed(seed_of(self.seed, "epoch", number, self.processes.rank)):
            totals = self._pass(number, advance)
        self.learner.end_epoch()
        validation = self._validate(number) if self._is_validated(number) else None
        row = {
            "epoch": float(number),
            "learning_rate": self.learner.learning_rate,
            **totals.columns(),
            **({} if validation is None else validation.columns()),
            "seconds": (seconds := time.perf_counter() - started),
            "attack_share": totals.attack_seconds / seconds,
            **({} if self.reduced_to is None else {REDUCED: float(self.reduced_to)}),
        }
        if isinstance(self.recipe, AdversarialRecipe):
            row["eps"] = float(self.recipe.threat_model_at(number).eps)
            if validation is not None:
                row["catastrophic_overfitting"] = float(catastrophic_overfitting([*validated(self.history), row]))
        self.history.append(row)
        if validation is not None:
            self._keep_if_best(number, validation)

    def _is_validated(self, epoch: int) -> bool:
        return epoch % self.recipe.validate_every == 0 or epoch == self.recipe.epochs

    def _keep_if_best(self, epoch: int, validation: Validation) -> None:
        rank = validation.rank(self.recipe.keep_by)
        if self.best_rank is None or rank >= self.best_rank or self.recipe.validation == "learned":
            self.best_epoch, self.best_rank = epoch, rank
            self.best_weights = state_of(self.learner.validated_network)

    def snapshot(self) -> Snapshot:
        """Returns the state from which `restore` resumes."""
        tensors = {**self.learner.tensors(), **{f"best.{name}": tensor for name, tensor in self.best_weights.items()}}
        notes = {
            "history": self.history,
            "steps": self.learner.steps,
            "best_epoch": self.best_epoch,
            "best_rank": self.best_rank,
        }
        return Snapshot(tensors, notes)

    def restore(self, snapshot: Snapshot) -> None:
        """Resumes from a snapshot."""
        notes = snapshot.notes
        self.history = notes["history"]
        self.best_epoch = notes["best_epoch"]
        self.best_rank = tuple(notes["best_rank"]) if self.best_epoch else None
        self.best_weights = below("best.", snapshot.tensors)
        self.learner.restore(snapshot.tensors, notes["steps"])

    def _pass(self, epoch: int, advance: Advance) -> Totals:
        """Returns the totals of one pass over the training split."""
        self.learner.begin_epoch()
        cast(ShuffledBatches, self._training.batch_sampler).set_epoch(epoch)
        generator = generator_of(self.seed, "attack", epoch, self.processes.rank, device=self.processes.device)
        totals = Totals(self.processes)
        progressive = self.recipe.progressive
        for number, (images, y) in enumerate(self._batches(self._training)):
            x = images if progressive is None else progressive.resize(images, epoch)
            if isinstance(self.recipe, AdversarialRecipe) and number % CLEAN_EVERY == 0:
                totals.add_clean(self.learner.clean_correct(x, y), len(y))
            update = self.learner.update(x, y, epoch=epoch, generator=generator)
            if not math.isfinite(update.loss):
                raise self._diverged(f"epoch {epoch}, batch {number + 1} of {len(self._training)}", update.loss)
            totals.add(update)
            advance(1, f"epoch {epoch} of {self.recipe.epochs}, loss {update.loss / update.examples:.3f}")
        return totals

    def _diverged(self, place: str, loss: float) -> HarnessError:
        return HarnessError(f"{self.recipe.name}: {place}: expected a finite loss, got {loss}; try a lower learning rate")

    def _validate(self, epoch: int) -> Validation:
        probe = None
        if isinstance(self.recipe, AdversarialRecipe):
            probe = Probe(self.recipe.threat_model, self.recipe.validation_steps)
        validation = validate(
            self.learner.network_to_validate(),
            self._batches(self._validation),
            num_classes=self.learner.model.num_classes,
            probe=probe,
            processes=self.processes,
            generator=generator_of(self.seed, "validation", self.processes.rank, device=self.processes.device),
        )
        for loss in (validation.loss, validation.robust_loss or 0.0):
            if not math.isfinite(loss):
                raise self._diverged(f"epoch {epoch}, validation", loss)
        return validation

    def _batches(self, loader: DataLoader[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in loader:
            yield self._here(x), y.to(self.processes.device, non_blocking=True)

    def _here(self, x: Tensor) -> Tensor:
        layout = quick_layout(self.processes.device, self.recipe.precision)
        return x.to(self.processes.device, memory_format=layout, non_blocking=True)
