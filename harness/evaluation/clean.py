"""Evaluates a network on the clean images of a split."""

import logging
import time
from functools import partial

import numpy as np
import torch
from torch import nn

from harness.errors import ModelError
from harness.evaluation.batch_check import batch_dependence
from harness.evaluation.batches import batches, prepare
from harness.evaluation.ledger import peak_memory_mb
from harness.evaluation.probes import probe_model
from harness.images import ImageSplit
from harness.models.safeguards import WithoutGradient
from harness.records import ConditionResult, Outcome
from harness.records.evidence import Evidence, NetworkEvidence
from harness.system.memory import reused_memory
from harness.system.modes import evaluating
from harness.system.out_of_memory import with_smaller_batches
from harness.system.precision import full_float32
from harness.system.progress import Progress, Silent

logger = logging.getLogger(__name__)


@reused_memory()
@full_float32()
def evaluate_clean(
    model: nn.Module,
    split: ImageSplit,
    *,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    probes: int = 16,
    progress: Progress | None = None,
    title: str = "clean images",
) -> Outcome:
    """Predicts on the unperturbed images of a split, in full float32.

    Args:
        model: Images (N, C, H, W) in [0,1] to logits (N, K); judged in eval mode, given back as it was.
        split: The examples; must not be empty.
        batch_size: Images of a forward pass; chosen by the device if not given.
        device: Where to run.
        probes: Number of examples on which `probe_model` looks for reasons to mistrust attacks on this model; 0 to leave
            that and `batch_dependence` out.
        progress: Where to show progress, by default nowhere.
        title: What it is called there: the condition that the images are in.

    Returns:
        An outcome with one condition without a budget.

    Where memory is short it is done again with batches of half the size; the evidence has the size that was used.

    Raises:
        HarnessError: if the split is empty, the network writes into some batches and not into others, or memory is short with
            one image.
    """
    device, model, size = prepare(model, split, device, batch_size)
    judge = partial(_judge, model, split, device=device, probes=probes, progress=progress or Silent(), title=title)
    return with_smaller_batches(judge, size, what=title, most=len(split))


def _judge(
    model: nn.Module, split: ImageSplit, size: int, *, device: torch.device, probes: int, progress: Progress, title: str
) -> Outcome:
    """Returns the outcome of a network that is prepared, from batches of up to `size` images; else as `evaluate_clean`."""
    started, logits = time.perf_counter(), []
    with evaluating(model), torch.no_grad(), progress.task(title, len(split), unit="images") as advance:
        for batch in batches(split, size, device):
            unwritten = batch.x._version
            logits.append(model(batch.x).float().cpu().numpy())
            if batch.x._version != unwritten:  # not on the few images that it was tried on
                raise ModelError("model: expected a network that leaves its input alone, got one that writes into some batches")
            advance(len(batch), "")
        seconds = time.perf_counter() - started
        clean = np.concatenate(logits)
        network = NetworkEvidence()
        if probes:
            advance(0, "checks of the network")
            network += batch_dependence(model, split, clean, batch_size=size, device=device)
            network += probe_model(model, split, clean, probes=min(probes, size), device=device)
        if isinstance(model, WithoutGradient):
            logger.warning("no gradient passes through the network, so that only black-box attacks can run: %s", model.obstacle)
            network += NetworkEvidence(no_gradient=True)
    labels = np.asarray(split.labels, dtype=np.int64)
    condition = ConditionResult(
        eps=None,
        logits=clean,
        is_adversarial=np.zeros(len(labels), dtype=bool),
        distance=np.zeros(len(labels), dtype=np.float32),
        forwards=len(labels),
        seconds=seconds,
        peak_memory_mb=peak_memory_mb(device),
        evidence=Evidence(batch_size=size, forwards=len(labels), network=network),
    )
    return Outcome(labels, clean, (condition,), np.full(len(labels), np.inf, dtype=np.float32))
