"""Evaluates a network on a split under one attack over rising budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.evaluation.audit import audit
from harness.evaluation.batches import PROBES, SplitBatch, batches, load, prepare, spread, stage_batch_size
from harness.evaluation.bisection import bisect, recheck
from harness.evaluation.ledger import Keep, Ledger
from harness.evaluation.meter import Meter
from harness.evaluation.probes import PROBE_RUNS, can_double, probe_steps
from harness.evaluation.protocols import independent, minimum_norm, nested
from harness.evaluation.run import SweepRun
from harness.evaluation.settings import SweepSettings
from harness.images import ImageSplit
from harness.models.agreement import with_finite_logits
from harness.models.inference import InferenceForm, inference_form
from harness.models.padding import in_few_sizes, in_one_size
from harness.models.reference import reference_parts
from harness.records import Outcome
from harness.records.evidence import Evidence
from harness.system.memory import reused_memory
from harness.system.modes import evaluating, frozen_parameters, guarded
from harness.system.out_of_memory import with_smaller_batches
from harness.system.precision import full_float32
from harness.system.progress import Progress, Silent

FAIR_SHARE = 0.05
"""Share of the examples that must be active at a budget for more steps to matter there."""
MOST_PROBES = 64
"""Examples on which the attack is run again with twice its steps, where that succeeds on any of the first few."""


@reused_memory()
@full_float32()
def sweep(
    model: nn.Module,
    split: ImageSplit,
    settings: SweepSettings,
    *,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    clean_logits: NDArray[np.float32] | None = None,
    keep: Keep | None = None,
    probes: int = 8,
    progress: Progress | None = None,
    title: str | None = None,
    whole: ImageSplit | None = None,
) -> Outcome:
    """Attacks a network at rising budgets, in full float32; the protocol is described in docs/architecture.md.

    Args:
        model: Images (N, C, H, W) in [0,1] to logits (N, K); attacked and judged in eval mode, given back as it was.
        split: The examples; must not be empty.
        settings: The attack, its budgets, and how it is run.
        batch_size: Images of a forward pass; chosen by the device if not given.
        device: Where to run.
        clean_logits: Logits (N, K) on the unperturbed images, if known.
        keep: Receives the final images of every example and budget; again where all is done again, and the last ones count.
        probes: Examples without success that are attacked again with twice the steps, more where that is a success on one of
            them; none without `best_of_iterates`.
        progress: Where to show progress, by default nowhere.
        title: What it is called there, by default as the attack.
        whole: The split that the examples are a part of: the network's forms are tried on its first images.

    Where memory is short all is done again with batches of half the size; the evidence has the size that was used.

    Raises:
        HarnessError: if the settings do not fit each other, see `SweepSettings.check`, the split is empty, or memory is short
            with one image.
    """
    known, size = _known_of(
        *(model, split, whole or split, settings),
        batch_size=batch_size,
        device=device,
        clean_logits=clean_logits,
        keep=keep,
        progress=progress,
        title=title,
    )
    return with_smaller_batches(partial(_swept, known, probes), size, what=known.title, most=known.most)


def _swept(known: _Known, probes: int, size: int) -> Outcome:
    """Returns the outcome of a sweep in batches of up to `size` images."""
    with _begun(known, size) as (run, evidence):
        _attack(run, known.split, known.progress)
        _double_steps(run, known.split, probes)
        audit(run, known.split, known.progress)
    return run.ledger.outcome(evidence)


@reused_memory()
@full_float32()
def completed(
    model: nn.Module,
    split: ImageSplit,
    settings: SweepSettings,
    found: Outcome,
    *,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    probes: int = 8,
    progress: Progress | None = None,
    title: str | None = None,
) -> Outcome:
    """Returns what `sweep` does, from the merged outcomes of the parts of a split, which were attacked without probes.

    Args:
        model: See `sweep`, as for the others.
        split: The whole split.
        settings: How its parts were attacked: by example.
        found: What was found on them, see `harness.evaluation.parts`.
        batch_size: See `sweep`; where memory was short for the parts, theirs is taken.
        device: Where to run.
        probes: See `sweep`.
        progress: See `sweep`.
        title: See `sweep`.
    """
    known, size = _known_of(
        *(model, split, split, settings),
        batch_size=found.conditions[0].evidence.batch_size or batch_size,
        device=device,
        clean_logits=found.clean_logits,
        keep=None,
        progress=progress,
        title=title,
    )
    return with_smaller_batches(partial(_completed, known, found, probes), size, what=known.title, most=known.most)


def _completed(known: _Known, found: Outcome, probes: int, size: int) -> Outcome:
    """Returns what was found with the outcome of the probes, in batches of up to `size` images."""
    with _begun(known, size) as (run, evidence):
        run.ledger.take_over(found)
        run.meter.settle(len(known.split) * len(known.settings.threat_models))
        _double_steps(run, known.split, probes)
    return run.ledger.outcome(evidence)


@dataclass(frozen=True, eq=False)
class _Known:
    """What a sweep is called with, whatever its batch size; see `sweep`."""

    model: nn.Module
    """On the device, behind a safeguard if it needs one."""
    split: ImageSplit
    whole: ImageSplit
    settings: SweepSettings
    device: torch.device
    clean_logits: NDArray[np.float32] | None
    keep: Keep | None
    progress: Progress
    title: str

    @property
    def most(self) -> int | None:
        """The most images that a pass can have: those that there are; by example each pass is filled up to a whole batch."""
        return None if self.settings.by_example else len(self.split)


def _known_of(
    model: nn.Module,
    split: ImageSplit,
    whole: ImageSplit,
    settings: SweepSettings,
    *,
    batch_size: int | None,
    device: torch.device | str,
    clean_logits: NDArray[np.float32] | None,
    keep: Keep | None,
    progress: Progress | None,
    title: str | None,
) -> tuple[_Known, int]:
    """Returns what a sweep is called with, the network on the device, and the size of its batches."""
    settings.check()
    device, model, size = prepare(model, whole, device, batch_size)
    if batch_size is None and device.type == "cpu" and settings.attack.STAGED and settings.best_of_iterates:
        with evaluating(model), frozen_parameters(model):
            size = stage_batch_size(model, split)
    title = title or settings.attack.name
    return _Known(model, split, whole, settings, device, clean_logits, keep, progress or Silent(), title), size


@contextmanager
def _begun(known: _Known, size: int) -> Iterator[tuple[SweepRun, Evidence]]:
    """Prepares a network for a sweep, and puts it back on leaving; yields the sweep, and what is known of it at every budget."""
    model, split, settings = known.model, known.split, known.settings
    count = len(settings.threat_models)
    task = known.progress.task(known.title, len(split) * count, unit="images" if count == 1 else "images x budgets")
    with evaluating(model), frozen_parameters(model), task as advance:
        probe = load(known.whole, range(min(PROBES, len(known.whole))), known.device).x
        form, reference, attacked = _forms_of(model, probe, settings, size=size, count=len(split))
        with guarded(reference, attacked) as held:
            labels = np.asarray(split.labels, dtype=np.int64)
            run = SweepRun(
                settings=settings,
                model=reference,
                form=attacked,
                stands_in=bool(reference_parts(model)),
                held=held,
                ledger=_ledger_of(settings, labels, device=known.device, keep=known.keep),
                batch_size=size,
                clean_logits=known.clean_logits,
                meter=Meter(advance),
                hashes=split.hashes if settings.by_example else None,
            )
            yield run, _evidence_of(form, settings) + Evidence(batch_size=size)


def _forms_of(model: nn.Module, probe: Tensor, settings: SweepSettings, *, size: int, count: int) -> tuple[nn.Module, ...]:
    """Returns the inference form that is asked for, the reference model as it is passed, and that form as attacks get it.

    Args:
        model: The network.
        probe: A few images (n, C, H, W).
        settings: The attack, and how it is run.
        size: Images of a full batch.
        count: Examples in all.
    """
    best, largest = settings.best_of_iterates, size if settings.by_example else min(size, count)
    form = inference_form(model, probe, settings.form, largest=largest)
    sized = in_one_size if settings.by_example else in_few_sizes
    reference = sized(model, probe, largest) if best else model  # a library alone gets batches as it cuts them
    attacked = reference if form is model else sized(form, probe, largest)
    return form, reference, with_finite_logits(attacked, model, probe) if best else attacked


def _ledger_of(settings: SweepSettings, labels: NDArray[np.int64], *, device: torch.device, keep: Keep | None) -> Ledger:
    return Ledger(labels, settings.attack, settings.threat_models, target_class=settings.target_class, device=device, keep=keep)


def _evidence_of(form: nn.Module, settings: SweepSettings) -> Evidence:
    """Returns what is the same at every budget: the class aimed at, and whether the network has the form asked for."""
    asked = settings.form
    compiled = isinstance(form, InferenceForm) and form.is_compiled
    coarse = isinstance(form, InferenceForm) and form.inference.precision == "bfloat16"
    return Evidence(
        target_class=settings.target_class,
        compiled=compiled if asked.compile else None,
        bfloat16=coarse if asked.precision == "bfloat16" else None,
    )


def _attack(run: SweepRun, split: ImageSplit, progress: Progress) -> None:
    """Takes the examples through the budgets, and attacks a part of those that `bisect` skipped."""
    _protocol_of(run.settings)(run, batches(split, run.batch_size, run.ledger.device))
    recheck(run, split, progress)


def _protocol_of(settings: SweepSettings) -> Callable[[SweepRun, Iterable[SplitBatch]], None]:
    """Returns how examples go through the budgets; a library's own search for minimum norms is judged as it comes."""
    if settings.attack.MINIMUM_NORM and settings.best_of_iterates:
        return minimum_norm
    return {"nested": nested, "independent": independent, "bisect": bisect}[settings.protocol]


def _double_steps(run: SweepRun, split: ImageSplit, probes: int) -> None:
    """Runs `probe_steps` at the largest budget that leaves a fair share of the examples active, where more steps mean anything.

    Where that succeeds on any of the first few, more are tried: few say whether there is doubt, but not how much.
    """
    probes = min(probes, run.batch_size)
    if not (run.settings.best_of_iterates and can_double(run.settings.attack)):
        return
    active = [run.ledger.active(level) for level in range(len(run.settings.threat_models))]
    level = max((level for level, rows in enumerate(active) if len(rows) >= FAIR_SHARE * len(split)), default=None)
    if level is None or not probes:
        return
    few = spread(active[level], run.ledger.labels, probes)
    more = spread(np.setdiff1d(active[level], few), run.ledger.labels, max(0, MOST_PROBES - len(few)))
    size = run.batch_size
    for chosen in [few, *(more[start : start + size] for start in range(0, len(more), size))]:
        _probe(run, split, level, chosen)
        if not run.ledger.accounts[level].evidence.doubled_steps_successes:
            return


def _probe(run: SweepRun, split: ImageSplit, level: int, chosen: list[int]) -> None:
    """Adds what `probe_steps` finds on the examples `chosen` to a budget's account."""
    most = run.most_passes(run.settings.attack)
    most = None if most is None else most.times(PROBE_RUNS)
    run.meter.begin("the attack again with twice the steps", len(chosen), most=most, worth=0, gain=0)
    with run.ledger.timed(level) as account:
        inputs = run.inputs(load(split, chosen, run.ledger.device))
        threat_model = run.settings.threat_models[level]
        account.evidence += probe_steps(run.settings.attack, inputs, threat_model=threat_model, seed=run.settings.seed)
