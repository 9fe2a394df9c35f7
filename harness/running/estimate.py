"""What is missing of a suite, in hours, passes and disk: from one timed batch of each network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.attacks.base import Attack
from harness.evaluation.audit import standard
from harness.images import ImageData
from harness.planning.plan import Plan
from harness.steps.base import Step
from harness.steps.conditions import Corrupted, FromFolder, Targeted, Trigger
from harness.steps.evaluate import Evaluate, Sweep
from harness.steps.given import Given
from harness.steps.kept import KeptImages
from harness.steps.parts import Divisible
from harness.steps.poison import TrainedModel
from harness.steps.train import Train
from harness.steps.transfer import Transfer
from harness.storage.store import Store
from harness.system.lazy import torch
from harness.training.recipes.adversarial import AdversarialRecipe

if TYPE_CHECKING:
    from harness.models.base import Architecture
    from harness.models.classifier import Classifier

BATCH = 32
"""Images of the timed batch, where the suite names no batch size."""
BYTES = 4
"""Of a stored logit, in float32."""


class Passes(NamedTuple):
    """Passes x examples."""

    forward: int = 0
    backward: int = 0

    def times(self, factor: int) -> Passes:
        """Returns so many times as many."""
        return Passes(self.forward * factor, self.backward * factor)

    def plus(self, other: Passes) -> Passes:
        """Returns the sum."""
        return Passes(self.forward + other.forward, self.backward + other.backward)


class Speed(NamedTuple):
    """Seconds an image, and the size of a network."""

    forward: float
    backward: float
    parameters: int
    """Bytes of its weights and buffers."""

    def seconds(self, passes: Passes) -> float:
        """Returns the wall time of some passes."""
        return passes.forward * self.forward + passes.backward * self.backward


@dataclass(frozen=True)
class StepEstimate:
    """What a step that is not in the store will take; None where that cannot be told from its specification."""

    kind: str
    title: str
    passes: Passes | None
    seconds: float | None
    disk: int | None
    """Bytes."""


def estimate(plan: Plan, data: ImageData, store: Store, device: torch.device) -> tuple[StepEstimate, ...]:
    """Returns what each step that is missing in the store takes at most.

    Attacks count as if no example left early, so they take less. One batch of each network is timed on the device, forward and
    backward. Loading of images, and work on the processor such as corruptions, is not counted.

    Args:
        plan: The plan of the suite.
        data: Its data.
        store: The finished steps.
        device: Where the missing steps will run.

    Raises:
        ModelError: if a network cannot be built.
    """
    speeds: dict[str, Speed] = {}
    found = []
    for step in plan.for_store(store).steps:
        if store.get(step.KIND, step.digest) is not None:
            continue
        passes, model = _passes_of(step, plan, data), _model_of(step)
        if passes is None or model is None:
            found.append(StepEstimate(step.KIND, step.title, None, None, None))
            continue
        key = f"{model.architecture.model_dump_json()} {model.label if isinstance(model, Given) else ''}"
        if key not in speeds:
            batch = plan.suite.evaluation.batch_size or BATCH
            speeds[key] = _speed_of(model, data, batch=batch, device=device)
        disk = speeds[key].parameters if isinstance(step, Train) else _outcome_bytes(step, plan, data)
        found.append(StepEstimate(step.KIND, step.title, passes, speeds[key].seconds(passes), disk))
    return tuple(found)


def time_batch(architecture: Architecture, data: ImageData, resolution: int, *, batch: int, device: torch.device) -> Speed:
    """Returns the speed of a network with new weights, see `time_network`."""
    network = architecture.without_weights().build(data.class_names, resolution=resolution, seed=0)
    return time_network(network, resolution, batch=batch, device=device)


def time_network(network: Classifier, resolution: int, *, batch: int, device: torch.device) -> Speed:
    """Returns the speed of a network, from one batch of noise forward and one backward, after one that warms it up."""
    network = network.to(device)
    x = torch.rand(batch, 3, resolution, resolution, device=device, generator=torch.Generator(device).manual_seed(0))
    times: list[tuple[float, float]] = []
    for _ in range(2):
        started = _now(device)
        logits = network(x.clone().requires_grad_())
        between = _now(device)
        logits.sum().backward()
        times.append((between - started, _now(device) - between))
    forward, backward = times[-1]
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return Speed(forward / batch, backward / batch, size)


def _now(device: torch.device) -> float:
    """Returns the time once the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _model_of(step: Step) -> TrainedModel | None:
    """Returns the model that a step passes images through."""
    model = step if isinstance(step, Train) else step.inputs.get("model")
    if isinstance(step, Transfer):
        model = step.sweep.inputs.get("model")
    return model if isinstance(model, TrainedModel) else None


def _speed_of(model: TrainedModel, data: ImageData, *, batch: int, device: torch.device) -> Speed:
    """Returns the speed of a network like a model's; that of a finished model itself."""
    if isinstance(model, Given):
        return time_network(model.built(data.class_names), model.resolution, batch=batch, device=device)
    return time_batch(model.architecture, data, model.resolution, batch=batch, device=device)


def _passes_of(step: Step, plan: Plan, data: ImageData) -> Passes | None:
    """Returns the passes of a step; None where its specification does not tell. Those of a step in parts are its parts'."""
    if isinstance(step, Divisible) and step.parts:
        return Passes()
    n, classes = _examples_of(step, plan, data), len(data.class_names)
    if isinstance(step, Train):
        return _training_passes(step, data)
    if isinstance(step, Sweep):
        return _sweep_passes(step, n, classes=classes)
    if isinstance(step, KeptImages):
        return _sweep_passes(step.sweep.undivided, n, classes=classes)
    if isinstance(step, Transfer):
        return _sweep_passes(step.sweep.undivided, n, classes=classes).plus(Passes(2 * n * len(step.targets)))
    images = _images_scored(step, n, data)
    return None if images is None else Passes(images)


def _examples_of(step: Step, plan: Plan, data: ImageData) -> int:
    """Returns the number of examples of a step: those of its part, of its folder, or of the evaluation."""
    if isinstance(step, Divisible) and step.span is not None:
        return len(step.span)
    return len(step.images) if isinstance(step, FromFolder) else len(plan.examples.of(data))


def _images_scored(step: Step, n: int, data: ImageData) -> int | None:
    """Returns how many images a step of n examples that attacks nothing passes through the network."""
    if isinstance(step, Evaluate | FromFolder):
        return n
    if isinstance(step, Corrupted):
        return n * (1 + len(step.corruption.severities))
    return 2 * len(data.splits["test"]) if isinstance(step, Trigger | Targeted) else None


def _training_passes(step: Train, data: ImageData) -> Passes:
    """Returns the passes of all epochs: each training image once and by each step of the recipe's attack, and the validation."""
    recipe, adversarial = step.recipe, isinstance(step.recipe, AdversarialRecipe)
    steps = int(getattr(recipe, "steps", 1)) if adversarial else 0
    probes = int(getattr(recipe, "validation_steps", 0)) if adversarial else 0
    training, validation = len(data.splits["train"]), len(data.splits["validation"])
    each = Passes(training * (1 + steps) + validation * (1 + probes), training * (1 + steps) + validation * probes)
    return each.times(recipe.epochs)


def _sweep_passes(sweep: Sweep, n: int, *, classes: int) -> Passes:
    """Returns the passes of a sweep of n examples: at every budget each stage on each one, and the audit on its sample."""
    attack, total = sweep.settings.attack, Passes(n)
    budgets = sweep.settings.threat_models
    for threat_model in budgets[:1] if attack.MINIMUM_NORM else budgets:
        total = total.plus(_attack_passes(attack, classes).times(n))
        sample = min(attack.sample_of_audit(threat_model.eps), n)
        total = total.plus(_attack_passes(standard(), classes).times(sample)) if sample else total
    return total


def _attack_passes(attack: Attack, classes: int) -> Passes:
    """Returns the passes of one example, from the fields that attacks have in common: steps, targets, queries, restarts."""
    if attack.STAGED:
        total = Passes()
        for stage in attack.stages(classes):
            total = total.plus(_attack_passes(stage, classes))
        return total
    fields: Mapping[str, Any] = {name: getattr(attack, name, None) for name in ("steps", "targets", "queries", "search_steps")}
    rounds = attack.restarts * (fields["search_steps"] or 1)
    if attack.ACCESS in ("none", "black_box"):
        return Passes(rounds * int(fields["queries"] or fields["steps"] or 1) + 1)
    targets = min(int(fields["targets"] or 1), classes - 1)
    steps = rounds * targets * int(fields["steps"] or 1)
    ordering = min(int(getattr(attack, "candidates", 0)), classes - 1)  # one gradient each, to find the nearest classes
    return Passes(steps + 1, steps + ordering)


def _result_bytes(step: Step, plan: Plan, data: ImageData) -> int:
    """Returns the size of an outcome, or of kept images."""
    if isinstance(step, KeptImages):
        return len(step.budgets) * step.most_bytes(plan.examples.of(data))
    return _outcome_bytes(step, plan, data)


def _outcome_bytes(step: Step, plan: Plan, data: ImageData) -> int:
    """Returns the size of an outcome: the logits on the clean images, and under each condition."""
    n = _examples_of(step, plan, data)
    conditions = len(step.settings.threat_models) if isinstance(step, Sweep) else 1
    if isinstance(step, Corrupted):
        conditions = len(step.corruption.severities)
    return BYTES * n * len(data.class_names) * (1 + conditions)


def estimate_rows(found: tuple[StepEstimate, ...]) -> Iterator[tuple[str, ...]]:
    """Yields one row a step, and one of all: kind, title, passes, hours, megabytes."""
    for it in found:
        if it.passes is None or it.seconds is None or it.disk is None:
            yield (it.kind, it.title, *("not estimated",) * 4)
        else:
            yield (it.kind, it.title, *_numbers(it.passes, it.seconds, it.disk))
    known = [it.passes for it in found if it.passes is not None]
    total = Passes(sum(it.forward for it in known), sum(it.backward for it in known))
    left_out = len(found) - len(known)
    title = f"{len(known)} missing steps" + (f", {left_out} not estimated" if left_out else "")
    yield ("total", title, *_numbers(total, sum(it.seconds or 0 for it in found), sum(it.disk or 0 for it in found)))


def _numbers(passes: Passes, seconds: float, disk: int) -> tuple[str, ...]:
    return (f"{passes.forward:,}", f"{passes.backward:,}", f"{seconds / 3600:.3f}", f"{disk / 1e6:.1f}")
