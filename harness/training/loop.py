"""Training: epochs of updates with a validation after each; the best epoch's weights are kept."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from harness.errors import HarnessError, first_line
from harness.images import ImageData
from harness.models.classifier import Classifier
from harness.models.layout import quick_layout
from harness.models.state import state_of
from harness.spec import digest_of
from harness.system.memory import reused_memory, scarce_memory
from harness.system.out_of_memory import half, is_out_of_memory
from harness.system.progress import Progress
from harness.training.checkpoint import Snapshot, hash_of, save_snapshot, usable_snapshot
from harness.training.history import TrainingResult, reduced_to, summarise
from harness.training.inference_form import without_copying_activations
from harness.training.processes import OneProcess, Processes
from harness.training.recipes.base import Recipe
from harness.training.run import Run, images_at_once

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

    Where memory is short, the training goes on from the last epoch whose state was kept, without a checkpoint from its beginning,
    with half of `Recipe.micro_batch` or of the batch in memory at a time. Updates stay as many and over as many images; batch
    norm sees the smaller parts, so that the summary warns of it.

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
        HarnessError: if a split is empty, the class counts differ, a loss is not finite, the checkpoint cannot be read or is not
            one of this training, or memory is short for the smallest part of a batch too.
    """
    _check(model, data)
    processes = processes or OneProcess(device)
    fingerprint = _fingerprint(model, data, recipe, seed, processes.count)
    model.to(device).to(memory_format=quick_layout(device, recipe.precision))
    start = partial(Run, model, data, recipe, seed=seed, workers=workers, processes=processes)
    return _trained(start, model, images_at_once(recipe, data), checkpoint=checkpoint, fingerprint=fingerprint, progress=progress)


def _trained(
    start: "partial[Run]", model: Classifier, most: int, *, checkpoint: Path | None, fingerprint: str, progress: Progress
) -> TrainingResult:
    """Returns the result of a training, begun again from its checkpoint with smaller parts of batches while memory is short.

    Args:
        start: Returns the training before its first epoch; takes `reduced_to`.
        model: See `train`; on its device, with its first weights.
        most: Images in memory at a time as the recipe says.
        checkpoint: See `train`.
        fingerprint: Identifies the training.
        progress: See `train`.
    """
    first = {name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()}
    save = None if checkpoint is None else partial(save_snapshot, folder=checkpoint, fingerprint=fingerprint)
    run: Run | None = None
    reduced: int | None = None
    while True:
        snapshot = None if checkpoint is None else usable_snapshot(checkpoint, fingerprint=fingerprint)
        if reduced is None and snapshot is not None:
            reduced = reduced_to(snapshot.notes["history"])
        try:
            run = start(reduced_to=reduced)
            if snapshot is not None:
                run.restore(snapshot)
            _run_epochs(run, save, progress)
            return _ended(run)
        except Exception as error:  # memory may be short in any library
            if not is_out_of_memory(error):
                raise
            said = first_line(error)
        run = snapshot = None  # they keep what is to be freed
        reduced = _smaller(reduced or most, model, start.keywords["processes"].count, start.args[2], said)
        model.zero_grad(set_to_none=True)
        model.load_state_dict(first)


def _run_epochs(run: Run, save: Callable[[Snapshot], None] | None, progress: Progress) -> None:
    """Runs the epochs that are left; `save` is called with the state after each of them."""
    recipe, learner = run.recipe, run.learner
    with ExitStack() as stack:
        stack.enter_context(without_copying_activations(learner.model))
        stack.enter_context(scarce_memory() if recipe.activation_checkpointing else reused_memory())
        advance = stack.enter_context(progress.task(f"train {recipe.name}", learner.total, unit="batches"))
        advance(learner.steps, f"epoch {len(run.history)} of {recipe.epochs}")
        while not run.finished:
            run.epoch(advance)
            if save is not None and run.processes.rank == 0:
                save(run.snapshot())


def _smaller(size: int, model: Classifier, count: int, recipe: Recipe, said: str) -> int:
    """Returns the next smaller part of a batch, for a training in `count` processes.

    Raises:
        HarnessError: if there is none, or several processes would have to agree on it.
    """
    if count > 1:
        lower = f"a `micro_batch` below {size} takes less" if size > 1 else "a smaller resolution or network takes less"
        raise HarnessError(f"{recipe.name}: out of memory with {size} images at once on {count} devices; {lower}: {said}")
    learned = not recipe.freeze_batchnorm and any(isinstance(module, _BatchNorm) for module in model.modules())
    least = 2 if learned else 1  # the statistics of one image may be those of one value
    return half(size, what=f"train {recipe.name}", said=said, least=least, then="goes on after its last finished epoch")


def _ended(run: Run) -> TrainingResult:
    """Returns the result of a training whose epochs are done; its network gets the kept weights."""
    model, recipe = run.learner.model, run.recipe
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
