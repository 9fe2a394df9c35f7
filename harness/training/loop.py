"""Training: epochs of updates with a validation after each; the best epoch's weights are kept."""

import logging
from contextlib import ExitStack
from pathlib import Path

import torch

from harness.errors import HarnessError
from harness.images import ImageData
from harness.models.classifier import Classifier
from harness.models.layout import quick_layout
from harness.models.state import state_of
from harness.spec import digest_of
from harness.system.memory import reused_memory
from harness.system.progress import Progress
from harness.training.checkpoint import hash_of, save_snapshot, usable_snapshot
from harness.training.history import TrainingResult, summarise
from harness.training.inference_form import without_copying_activations
from harness.training.processes import OneProcess, Processes
from harness.training.recipes.base import Recipe
from harness.training.run import Run

logger = logging.getLogger(__name__)


def train(
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    workers: int,
    checkpoint: Path | None,
    progress: Progress,
    processes: Processes | None = None,
) -> TrainingResult:
    """Returns the history and summary of a training that starts from the weights that a classifier has.

    After each epoch the network is validated by its accuracy; if the recipe is adversarial, by its accuracy under PGD at
    the recipe's own eps (Rice et al. 2020, https://arxiv.org/abs/2002.11569). The best epoch's weights are kept. Of two
    epochs with the same accuracy that is the one of lower loss, and with the same loss the later one. With
    `Recipe.keep_by` "loss", the loss comes first and then the accuracy. The test split is not read.

    Args:
        model: The classifier; it ends with the kept weights, on `device`, in eval mode.
        data: Its splits "train" and "validation".
        recipe: The recipe.
        seed: Decides the order of the images, their augmentation, dropout and the attack's random starts.
        device: Where to compute.
        workers: Processes that load images; does not change the result.
        checkpoint: A folder for the state after each epoch. If it holds one, training resumes there and ends with the
            weights of an uninterrupted run; a damaged one is renamed. The caller removes it.
        progress: Where to show progress.
        processes: The processes that share each batch; by default only this one.

    Raises:
        HarnessError: if a split is empty, the class counts differ, a loss is not finite, or the checkpoint cannot be read or is
            not one of this training.
    """
    _check(model, data)
    processes = processes or OneProcess(device)
    fingerprint = _fingerprint(model, data, recipe, seed, processes.count)
    model.to(device).to(memory_format=quick_layout(device, recipe.precision))
    run = Run(model, data, recipe, seed=seed, workers=workers, processes=processes)
    if checkpoint is not None and (snapshot := usable_snapshot(checkpoint, fingerprint=fingerprint)):
        run.restore(snapshot)
    with ExitStack() as stack:
        stack.enter_context(without_copying_activations(model))
        stack.enter_context(reused_memory())
        advance = stack.enter_context(progress.task(f"train {recipe.name}", run.learner.total, unit="batches"))
        advance(run.learner.steps, f"epoch {len(run.history)} of {recipe.epochs}")
        while not run.finished:
            run.epoch(advance)
            if checkpoint is not None and processes.rank == 0:
                save_snapshot(run.snapshot(), checkpoint, fingerprint=fingerprint)
    model.load_state_dict(run.best_weights)
    model.to(memory_format=torch.contiguous_format).eval()
    summary = summarise(run.history, run.best_epoch, recipe.epochs, recipe.keep_by, validation=recipe.validation)
    for warning in summary["warnings"]:
        logger.warning("%s: %s", recipe.name, warning)
    return TrainingResult(tuple(run.history), run.best_epoch, summary)


def _check(model: Classifier, data: ImageData) -> None:
    for name in ("train", "validation"):
        if not len(data.splits[name]):
            raise HarnessError(f"{data.name}: expected images in the split {name!r}, found none")
    if model.num_classes != len(data.class_names):
        raise HarnessError(f"{data.name}: expected a model of {len(data.class_names)} classes, got one of {model.num_classes}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise HarnessError("expected a model with parameters to train, got one that has none or all frozen")


def _fingerprint(model: Classifier, data: ImageData, recipe: Recipe, seed: int, count: int) -> str:
    """Returns the digest of a training: of recipe, seed, data, first weights, and the number of processes if above one."""
    several = [count] if count > 1 else []
    return digest_of([recipe.identity(), seed, data.content_hash, hash_of(state_of(model)), *several])
