"""Evaluates a network on a split: on clean images, and under one attack over rising budgets."""

import copy
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.attacks.base import Attack
from harness.errors import HarnessError, ModelError
from harness.evaluation.batch_check import batch_dependence
from harness.evaluation.batches import Batch, batch_size_for, batches, load
from harness.evaluation.findings import Finding
from harness.evaluation.ledger import Keep, Ledger, peak_memory_mb
from harness.evaluation.probes import can_double, probe_model, probe_steps, spread
from harness.evaluation.protocols import Setting, independent, minimum_norm, nested
from harness.images import ImageSplit
from harness.models.agreement import with_finite_logits
from harness.models.inference import AS_GIVEN, Inference, inference_form
from harness.models.inference import InferenceForm as Form
from harness.models.padding import in_few_sizes
from harness.models.safeguards import WithoutGradient, safeguarded
from harness.records import ConditionResult, Outcome
from harness.system.memory import reused_memory
from harness.system.modes import evaluating, frozen_parameters, guarded
from harness.system.precision import full_float32
from harness.system.progress import Progress, Silent
from harness.threat import ThreatModel

logger = logging.getLogger(__name__)

Protocol = Literal["nested", "independent"]
"""Whether only survivors go on to the next budget, or every budget starts from scratch."""
FAIR_SHARE = 0.05
"""Share of the examples that must survive a budget for more steps to matter there."""
MOST_PROBES = 64
"""Survivors on which the attack is run again with twice its steps, where any of the first few falls to that."""
PROBES = 2
"""Images on which the faster form of a network is compared with the network itself, and the network tried beforehand."""


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

    Returns:
        An outcome with one condition without a budget.

    Raises:
        HarnessError: if the split is empty, or the network writes into some batches and not into others.
    """
    device, model, size = _prepare(model, split, device, batch_size)
    started, logits = time.perf_counter(), []
    with evaluating(model), torch.no_grad(), (progress or Silent()).task("clean", len(split)) as advance:
        for batch in batches(split, size, device):
            unwritten = batch.x._version
            logits.append(model(batch.x).float().cpu().numpy())
            if batch.x._version != unwritten:  # not on the few images that it was tried on
                raise ModelError("model: expected a network that leaves its input alone, got one that writes into some batches")
            advance(len(batch), "")
        seconds = time.perf_counter() - started
        clean = np.concatenate(logits)
        findings: dict[str, float] = {}
        if probes:
            findings |= batch_dependence(model, split, clean, batch_size=size, device=device)
            findings |= probe_model(model, split, clean, probes=min(probes, size), device=device)
        if isinstance(model, WithoutGradient):
            logger.warning("no gradient passes through the network, so that only black-box attacks can run: %s", model.obstacle)
            findings[Finding.NO_GRADIENT.value] = 1.0
    labels = np.asarray(split.labels, dtype=np.int64)
    condition = ConditionResult(
        eps=None,
        logits=clean,
        fooled=np.zeros(len(labels), dtype=bool),
        distance=np.zeros(len(labels), dtype=np.float32),
        forwards=len(labels),
        seconds=seconds,
        peak_memory_mb=peak_memory_mb(device),
        findings={Finding.BATCH_SIZE.value: float(size), **findings},
    )
    return Outcome(labels, clean, (condition,), np.full(len(labels), np.inf, dtype=np.float32))


@reused_memory()
@full_float32()
def sweep(
    model: nn.Module,
    split: ImageSplit,
    attack: Attack,
    *,
    threat_models: Sequence[ThreatModel],
    protocol: Protocol = "nested",
    watch: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    inference: Inference = Inference(),  # noqa: B008 - frozen
    target_class: int | None = None,
    clean_logits: NDArray[np.float32] | None = None,
    keep: Keep | None = None,
    probes: int = 8,
    progress: Progress | None = None,
) -> Outcome:
    """Attacks a network at rising budgets, in full float32; the protocol is described in docs/architecture.md.

    Args:
        model: Images (N, C, H, W) in [0,1] to logits (N, K); attacked and judged in eval mode, given back as it was.
        split: The examples; must not be empty.
        attack: The attack; where it seeks minimum norms it runs once and is judged at every budget.
        threat_models: The budgets, rising, of one norm.
        protocol: "nested": only survivors go on to the next budget. "independent": every budget from scratch.
        watch: Count the best of an attack's iterates and stop what is broken. Without it the attack's returned image
            is judged; with the independent protocol that is what the library itself gives, bit for bit where no margin
            between logits is above `harness.attacks.gradients.LARGEST_MARGIN`.
        seed: Seeds every random choice.
        batch_size: Images of a forward pass; chosen by the device if not given.
        device: Where to run.
        inference: The form of the network that attacks differentiate; without `watch` always the network as given.
        target_class: The wanted class, required where the threat models are targeted; its own examples are spared.
        clean_logits: Logits (N, K) on the unperturbed images, if known.
        keep: Receives the final images of every example and budget.
        probes: Survivors that are attacked again with twice the steps, more where one of them falls; 0 without `watch`.
        progress: Where to show progress, by default nowhere.

    Raises:
        HarnessError: if the budgets do not rise or differ in norm, the target class is missing, the split is empty,
            or the attack cannot run under these threat models.
    """
    threats = _checked(attack, threat_models, target_class)
    device, model, size = _prepare(model, split, device, batch_size)
    task = (progress or Silent()).task(attack.name, len(split) * len(threats))
    asked = inference if watch else AS_GIVEN
    with evaluating(model), frozen_parameters(model), task as advance:
        full = min(size, len(split))
        probe = load(split, range(min(PROBES, len(split))), device).x
        form = inference_form(model, probe, asked, largest=full)
        judge = in_few_sizes(model, probe, full) if watch else model  # a library alone gets batches as it cuts them
        attacked = judge if form is model else in_few_sizes(form, probe, full)
        attacked = with_finite_logits(attacked, model, probe) if watch else attacked
        with guarded(judge, attacked) as held:
            setting = Setting(
                attack=attack,
                threat_models=threats,
                model=judge,
                form=attacked,
                held=held,
                ledger=Ledger(np.asarray(split.labels, dtype=np.int64), threats, device=device, keep=keep),
                seed=seed,
                batch_size=size,
                best_of_iterates=watch,
                target_class=target_class,
                clean_logits=clean_logits,
                settled=lambda count: advance(count, ""),
            )
            _flow(setting, protocol)(setting, batches(split, size, device))
            if watch and can_double(attack):
                _double_steps(setting, split, min(probes, size))
    return setting.ledger.outcome(attack, batch_size=size, setting=_known(form, asked, target_class))


def _known(form: nn.Module, asked: Inference, target_class: int | None) -> dict[str, float]:
    """Returns what is the same at every budget: the class aimed at, and whether the network has the form asked for."""
    found = {} if target_class is None else {Finding.TARGET_CLASS.value: float(target_class)}
    if asked.compile:
        found[Finding.COMPILED.value] = float(isinstance(form, Form) and form.is_compiled)
    if asked.precision == "bfloat16":
        found[Finding.BFLOAT16.value] = float(isinstance(form, Form) and form.inference.precision == "bfloat16")
    return found


def _flow(setting: Setting, protocol: Protocol) -> Callable[[Setting, Iterable[Batch]], None]:
    """Returns how examples go through the budgets; a library's own search for minimum norms is judged as it comes."""
    if setting.attack.MINIMUM_NORM and setting.best_of_iterates:
        return minimum_norm
    return {"nested": nested, "independent": independent}[protocol]


def _double_steps(setting: Setting, split: ImageSplit, probes: int) -> None:
    """Runs `probe_steps` at the largest budget that a fair share of the examples survive.

    Where any of the first few falls, more are tried: few say whether there is doubt, but not how much.
    """
    survivors = [
        setting.ledger.survivors(level, target_class=setting.target_class) for level in range(len(setting.threat_models))
    ]
    level = max((level for level, rows in enumerate(survivors) if len(rows) >= FAIR_SHARE * len(split)), default=None)
    if level is None or not probes:
        return
    few = spread(survivors[level], setting.ledger.labels, probes)
    more = spread(np.setdiff1d(survivors[level], few), setting.ledger.labels, max(0, MOST_PROBES - len(few)))
    size = setting.batch_size
    for chosen in [few, *(more[start : start + size] for start in range(0, len(more), size))]:
        _probe(setting, split, level, chosen)
        if not setting.ledger.accounts[level].probes[Finding.DOUBLED_STEPS_BROKEN]:
            return


def _probe(setting: Setting, split: ImageSplit, level: int, chosen: list[int]) -> None:
    """Adds what `probe_steps` finds on the examples `chosen` to a budget's account."""
    with setting.ledger.timed(level) as account:
        victim = setting.victim(load(split, chosen, setting.ledger.device))
        found, passes = probe_steps(setting.attack, victim, threat_model=setting.threat_models[level], seed=setting.seed)
        account.probes = {name: account.probes.get(name, 0.0) + value for name, value in found.items()}
        account.evidence += passes


def _checked(attack: Attack, threat_models: Sequence[ThreatModel], target_class: int | None) -> tuple[ThreatModel, ...]:
    threats = tuple(threat_models)
    if len({(threat.norm, threat.targeted) for threat in threats}) != 1:
        raise HarnessError("threat_models: expected one or more budgets of the same norm, all targeted or none")
    budgets = [threat.eps for threat in threats]
    if any(left >= right for left, right in itertools.pairwise(budgets)):
        raise HarnessError(f"threat_models: expected rising budgets, got {', '.join(map(str, budgets))}")
    if threats[0].targeted != (target_class is not None):
        raise HarnessError(f"target_class: expected one where the threat model is targeted, none else; got {target_class}")
    for threat in threats:
        if reason := attack.supports(threat):
            raise HarnessError(f"attacks.{attack.name}: {reason}")
    return threats


def _prepare(
    model: nn.Module, split: ImageSplit, device: torch.device | str, batch_size: int | None
) -> tuple[torch.device, nn.Module, int]:
    """Returns the device, the network on it (a copy if it lies elsewhere; behind a safeguard if it needs one), the batch size."""
    if not len(split):
        raise HarnessError("evaluation: expected at least one example, got an empty split")
    device = torch.device(device)
    elsewhere = any(tensor.device.type != device.type for tensor in [*model.parameters(), *model.buffers()])
    model = copy.deepcopy(model).to(device) if elsewhere else model
    with evaluating(model):
        model = safeguarded(model, load(split, range(min(PROBES, len(split))), device).x)
        return device, model, batch_size_for(model, split, device, batch_size)
