"""Evaluates a network on the clean images of a split."""

import logging
import time
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.errors import ModelError
from harness.evaluation.batch_check import batch_dependence
from harness.evaluation.batches import PROBES, batches, load, prepare
from harness.evaluation.ledger import peak_memory_mb
from harness.evaluation.probes import probe_model
from harness.images import ImageSplit
from harness.models.padding import in_one_size
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
    whole: ImageSplit | None = None,
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
        whole: The split that the examples are a part of, or the split itself, where an image's logits may depend on no other one:
            all passes have the size of a full batch then, and the network is tried on the first images of the whole.

    Returns:
        An outcome with one condition without a budget.

    Where memory is short it is done again with batches of half the size; the evidence has the size that was used.

    Raises:
        HarnessError: if the split is empty, the network writes into some batches and not into others, or memory is short with
            one image.
    """
    device, model, size = prepare(model, whole or split, device, batch_size)
    judge = partial(_judge, model, split, whole, device=device, probes=probes, progress=progress or Silent(), title=title)
    return with_smaller_batches(judge, size, what=title, most=len(split) if whole is None else None)


def _judge(
    model: nn.Module,
    split: ImageSplit,
    whole: ImageSplit | None,
    size: int,
    *,
    device: torch.device,
    probes: int,
    progress: Progress,
    title: str,
) -> Outcome:
    """Returns the outcome of a network that is prepared, from batches of up to `size` images; else as `evaluate_clean`."""
    started, logits = time.perf_counter(), []
    with evaluating(model), torch.no_grad(), progress.task(title, len(split), unit="images") as advance:
        network = model if whole is None else in_one_size(model, load(whole, range(min(PROBES, len(whole))), device).x, size)
        for batch in batches(split, size, device):
            unwritten = batch.x._version
            logits.append(network(batch.x).float().cpu().numpy())
            if batch.x._version != unwritten:  # not on the few images that it was tried on
                raise ModelError("model: expected a network that leaves its input alone, got one that writes into some batches")
            advance(len(batch), "")
        seconds = time.perf_counter() - started
        clean, found = np.concatenate(logits), NetworkEvidence()
        if probes:
            advance(0, "checks of the network")
            found += _probed(model, split, clean, size, device=device, probes=probes)
        if isinstance(model, WithoutGradient):
            logger.warning("no gradient passes through the network, so that only black-box attacks can run: %s", model.obstacle)
            found += NetworkEvidence(no_gradient=True)
    labels = np.asarray(split.labels, dtype=np.int64)
    condition = ConditionResult(
        eps=None,
        logits=clean,
        is_adversarial=np.zeros(len(labels), dtype=bool),
        distance=np.zeros(len(labels), dtype=np.float32),
        forwards=len(labels),
        seconds=seconds,
        peak_memory_mb=peak_memory_mb(device),
        evidence=Evidence(batch_size=size, forwards=len(labels), network=found),
    )
    return Outcome(labels, clean, (condition,), np.full(len(labels), np.inf, dtype=np.float32))


@reused_memory()
@full_float32()
def completed(
    model: nn.Module,
    split: ImageSplit,
    found: Outcome,
    *,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    probes: int = 16,
    progress: Progress | None = None,
    title: str = "clean images",
) -> Outcome:
    """Returns what `evaluate_clean` does, from the merged outcomes of the parts of a split, which were scored without probes.

    Args:
        model: See `evaluate_clean`, as for the others.
        split: The whole split.
        found: What was found on its parts, see `harness.evaluation.parts`.
        batch_size: See `evaluate_clean`; where memory was short for the parts, theirs is taken.
        device: Where to run.
        probes: See `evaluate_clean`.
        progress: See `evaluate_clean`.
        title: See `evaluate_clean`.
    """
    condition = found.conditions[0]
    device, model, size = prepare(model, split, device, condition.evidence.batch_size or batch_size)
    task = (progress or Silent()).task(title, len(split), unit="images")
    with evaluating(model), torch.no_grad(), task as advance:
        advance(len(split), "checks of the network")
        probe = partial(_probed, model, split, condition.logits, device=device, probes=probes)
        network = condition.evidence.network + with_smaller_batches(probe, size, what=title)
    return replace(found, conditions=(replace(condition, evidence=replace(condition.evidence, network=network)),))


def _probed(
    model: nn.Module, split: ImageSplit, clean: NDArray[np.float32], size: int, *, device: torch.device, probes: int
) -> NetworkEvidence:
    """Returns what a few images show about a network in eval mode, which gave these logits (N, K), with batches of `size`."""
    found = batch_dependence(model, split, clean, batch_size=size, device=device)
    return found + probe_model(model, split, clean, probes=min(probes, size), device=device)
