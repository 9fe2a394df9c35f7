"""Runs one attack on one batch and judges what it returns: the plug-in computes, the frame measures.

Source: Carlini et al. 2019, "On evaluating adversarial robustness", https://arxiv.org/abs/1902.06705: keep the best
    iterate, verify that adversarials are valid, attack only what is classified correctly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.attacks.collectors import AllAdversarial, FirstAdversarial, NearestAdversarial
from harness.attacks.criterion import Criterion
from harness.attacks.faults import GradientFaults
from harness.attacks.keeper import Keeper
from harness.attacks.results import AttackInput, AttackResult, NearestResult
from harness.attacks.summary import evidence_of
from harness.attacks.watcher import Watcher
from harness.errors import HarnessError
from harness.records.evidence import Evidence
from harness.system.by_example import DrawsByExample, keys_of
from harness.system.modes import ModuleLists, guarded, preserved_buffers
from harness.system.seeds import global_seed, seed_of
from harness.threat import TOLERANCE, Ball, ThreatModel, largest_change

if TYPE_CHECKING:
    from harness.attacks.base import Attack

Victim = AttackInput
"""The name of `AttackInput` up to now, for scripts that import it from here."""


def restart_seed(seed: int, restart: int) -> int:
    """Returns the seed that the global generators and the attack's own one get for one restart."""
    return seed_of(seed, "restart", restart)


def run_attack(
    attack: Attack, inputs: AttackInput, *, threat_model: ThreatModel, seed: int, best_of_iterates: bool = True
) -> AttackResult:
    """Attacks a batch and judges the outcome.

    The network, its modes and gradients, the images and all random state stay as they were.

    Args:
        attack: The plug-in.
        inputs: The reference model and the batch.
        threat_model: Norm and budget.
        seed: Seeds every random choice of the attack.
        best_of_iterates: Count any iterate that is inside the ball and misclassified, and end the attack on that example;
            else the result is what the library itself returns, bit for bit. Only of an example without success, whose last
            iterate the attack does not return, it is the most promising image that the attack showed, see `Keeper`.

    Raises:
        HarnessError: if the attack cannot run under this threat model, returns something of another shape or type, or
            leaves the network in training mode.
    """
    if attack.MINIMUM_NORM and best_of_iterates:
        nearest = find_nearest(attack, inputs, threat_model=threat_model, seed=seed)
        return within(nearest, inputs, threat_model=threat_model)
    return search_ball(attack, inputs, threat_model=threat_model, seed=seed, best_of_iterates=best_of_iterates)


def search_ball(
    attack: Attack, inputs: AttackInput, *, threat_model: ThreatModel, seed: int, best_of_iterates: bool = True
) -> AttackResult:
    """Attacks a batch as `run_attack` does, but a minimum-norm attack too ends with the first adversarial inside the ball.

    Raises:
        HarnessError: as `run_attack`.
    """
    _check_support(attack, threat_model)
    state = _State(inputs.x, ignores_budget=attack.MINIMUM_NORM)
    with _guarded(inputs) as networks:
        for restart in range(1 if attack.RESTARTS_INSIDE else attack.restarts):
            rows = (~state.is_adversarial).nonzero().flatten()
            if len(rows):
                rest = inputs if len(rows) == len(inputs.x) else inputs.at(rows)
                layout = inputs.memory_format if threat_model.norm in attack.ANY_LAYOUT else torch.preserve_format
                watched = _watch(attack, rest, threat_model, layout=layout, best_of_iterates=best_of_iterates)
                watched.listener, watched.by_example = inputs.listener, inputs.hashes is not None
                with _untouched(attack, networks):
                    returned = _perturb(attack, watched, threat_model, seed=restart_seed(seed, restart), hashes=rest.hashes)
                state.take(rows, watched, returned, model=inputs.model)
    distance, evidence = threat_model.distance(state.x_adv, inputs.x), state.evidence + state.faults.evidence
    return AttackResult(state.x_adv, state.known_logits(), state.is_adversarial, distance, evidence, state.faults)


def find_nearest(attack: Attack, inputs: AttackInput, *, threat_model: ThreatModel, seed: int) -> NearestResult:
    """Runs a minimum-norm attack and returns the nearest adversarial of each example, whatever its distance.

    Args:
        attack: The plug-in; every iterate that it shows the network is considered.
        inputs: The reference model and the batch.
        threat_model: The norm, and the largest budget of interest (a hint for the attack).
        seed: Seeds every random choice of the attack.

    Raises:
        HarnessError: as `run_attack`.
    """
    _check_support(attack, threat_model)
    x_adv, evidence, faults = inputs.x.clone(), Evidence(), GradientFaults.before(inputs.x)
    nearest = torch.full((len(x_adv),), torch.inf, device=x_adv.device)
    rows = torch.arange(len(x_adv), device=x_adv.device)
    with _guarded(inputs) as networks:
        for restart in range(1 if attack.RESTARTS_INSIDE else attack.restarts) if len(x_adv) else ():
            criterion = Criterion(inputs.y, targeted=threat_model.targeted)
            watched = NearestAdversarial(
                inputs.form or inputs.model, inputs.x, criterion, threat_model=threat_model, reference=inputs.model
            )
            watched.listener, watched.by_example = inputs.listener, inputs.hashes is not None
            with _untouched(attack, networks):
                returned = _perturb(attack, watched, threat_model, seed=restart_seed(seed, restart), hashes=inputs.hashes)
            last = inputs.x if returned is None else returned
            with torch.no_grad():
                watched.forwards += len(last)
                watched.consider(last, rows, inputs.model(last))
            better = watched.distance < nearest
            nearest = torch.where(better, watched.distance, nearest)
            unknown = nearest.isinf()
            x_adv[better], x_adv[unknown] = watched.best[better], last[unknown]
            _note(faults, rows, watched)
            nothing_lost, lengths = unknown[:0], torch.zeros_like(nearest)  # an attack that ignores the budget leaves no ball
            finite = largest_change(last, inputs.x).isfinite()
            evidence += evidence_of(
                watched, silent=nothing_lost, violation=lengths.where(finite, torch.inf)[unknown], is_adversarial=better
            )
    return NearestResult(x_adv, nearest, evidence + faults.evidence, faults)


def within(nearest: NearestResult, inputs: AttackInput, *, threat_model: ThreatModel) -> AttackResult:
    """Judges what a minimum-norm attack found at one budget: what lies further off is projected into the ball."""
    outside = nearest.distance > float(threat_model.eps) + TOLERANCE
    x_adv = torch.where(outside.view(-1, 1, 1, 1), threat_model.project(nearest.x_adv, inputs.x), nearest.x_adv)
    with _guarded(inputs), torch.no_grad():
        logits = inputs.model(x_adv).float()
    criterion = Criterion(inputs.y, targeted=threat_model.targeted)
    is_adversarial = criterion.is_adversarial(logits, torch.arange(len(x_adv), device=x_adv.device))
    return AttackResult(x_adv, logits, is_adversarial, threat_model.distance(x_adv, inputs.x), nearest.evidence, nearest.faults)


class _State:
    """What was found so far, over the restarts of an attack on one batch."""

    def __init__(self, x: Tensor, *, ignores_budget: bool) -> None:
        self.ignores_budget = ignores_budget  # what it returns may lie outside the ball, where the frame projects it
        self.x, self.x_adv = x, torch.empty_like(x)  # the first restart leaves an image of every example
        self.is_adversarial = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.logits: Tensor | None = None
        self.evidence, self.faults = Evidence(), GradientFaults.before(x)

    def take(self, rows: Tensor, watched: Watcher, returned: Tensor | None, *, model: nn.Module) -> None:
        """Judges what one restart made of the examples `rows`."""
        _note(self.faults, rows, watched)
        kept = watched.success if isinstance(watched, FirstAdversarial) else torch.zeros_like(watched.success)
        if isinstance(watched, FirstAdversarial) and watched.logits is not None:
            self._store(rows[kept], watched.best[kept], watched.logits[kept])
        self.is_adversarial[rows[kept]] = True
        rest = (~kept).nonzero().flatten()
        silent, violation = torch.zeros_like(kept), self.x.new_zeros(0)
        if returned is not None and isinstance(watched, FirstAdversarial) and not watched.by_example:
            silent = self._lost(rows, watched, returned, model=model)
        if returned is not None and len(rest):
            last = returned[rest]
            violation = watched.threat_model.violation(last, watched.x[rest])
            inside = _into_the_ball(last, self.x, rows[rest], violation=violation, threat_model=watched.threat_model)
            with torch.no_grad():
                watched.forwards += len(rest)
                logits = model(inside).float()
            success = watched.criterion.is_adversarial(logits, rest)
            silent[rest] = watched.success[rest] & watched.certain[rest] & ~success
            self._store(rows[rest], inside, logits)
            self.is_adversarial[rows[rest]] = success
            if isinstance(watched, Keeper):
                closer, inside, logits = watched.closer_than(inside, logits, ~success, model=model)
                self._store(rows[closer], inside, logits)
        if self.ignores_budget:
            violation = torch.where(violation.isfinite(), 0.0, torch.inf)
        self.evidence += evidence_of(watched, silent=silent, violation=violation, is_adversarial=self.is_adversarial[rows])

    def _lost(self, rows: Tensor, watched: FirstAdversarial, returned: Tensor, *, model: nn.Module) -> Tensor:
        """Returns (n,) whether the attack lost an adversarial that the frame had kept: what it returned is none."""
        lost = watched.lost(returned)
        changed = lost.nonzero().flatten()
        if len(changed):
            last = returned[changed]
            violation = watched.threat_model.violation(last, watched.x[changed])
            inside = _into_the_ball(last, self.x, rows[changed], violation=violation, threat_model=watched.threat_model)
            with torch.no_grad():
                watched.forwards += len(changed)
                lost[changed] = ~watched.criterion.is_adversarial(model(inside), changed)
        return lost

    def known_logits(self) -> Tensor:
        """Returns the logits of all images; those of an empty batch have no classes."""
        return self.x.new_zeros(0, 0) if self.logits is None else self.logits

    def _store(self, rows: Tensor, x_adv: Tensor, logits: Tensor) -> None:
        if self.logits is None:
            self.logits = logits.new_zeros(len(self.x), logits.shape[1])
        self.x_adv[rows], self.logits[rows] = x_adv, logits


def _into_the_ball(x_adv: Tensor, x: Tensor, rows: Tensor, *, violation: Tensor, threat_model: Ball) -> Tensor:
    """Projects what lies outside the balls around the `rows` of `x`; what is inside stays as it is. Laid out in memory as `x`."""
    inside = torch.empty_like(x[: len(rows)]).copy_(x_adv)
    outside = (violation > TOLERANCE).nonzero().flatten()
    if len(outside):
        inside[outside] = threat_model.project(inside[outside], x[rows[outside]])
    return inside


def _watch(
    attack: Attack, inputs: AttackInput, threat_model: ThreatModel, *, layout: torch.memory_format, best_of_iterates: bool
) -> Watcher:
    """Returns the watcher of an attack whose iterates have that layout: tensors of one layout are quick to compare."""
    criterion, x = Criterion(inputs.y, targeted=threat_model.targeted), inputs.x.to(memory_format=layout)
    form = inputs.form or inputs.model
    if best_of_iterates:
        return FirstAdversarial(form, x, criterion, threat_model=threat_model, reference=inputs.model)
    return (Watcher if attack.RETURNS_LAST else Keeper)(form, x, criterion, threat_model=threat_model)


def _note(faults: GradientFaults, rows: Tensor, watched: Watcher) -> None:
    """Notes one restart on the examples `rows` (n,)."""
    faults.note(rows, asked=watched.gradients > 0, zero=watched.blind, nonfinite=watched.nonfinite_gradients)


def _perturb(
    attack: Attack, watched: Watcher, threat_model: ThreatModel, *, seed: int, hashes: tuple[str, ...] | None
) -> Tensor | None:
    """Returns what the attack returned, or None where it ended because there is an adversarial of every example."""
    x, y = watched.x.clone(), watched.criterion.y.clone()
    generator = torch.Generator(device=x.device).manual_seed(seed)
    try:
        with global_seed(seed), _draws(watched, seed, hashes), torch.enable_grad():
            x_adv = attack.perturb(watched, x, y, threat_model=threat_model, generator=generator)
    except AllAdversarial:
        return None
    if not isinstance(x_adv, Tensor) or (x_adv.shape, x_adv.dtype, x_adv.device) != (x.shape, x.dtype, x.device):
        got = f"{x_adv.dtype} {tuple(x_adv.shape)} on {x_adv.device}" if isinstance(x_adv, Tensor) else type(x_adv).__name__
        raise HarnessError(f"attacks.{attack.name}: expected {x.dtype} {tuple(x.shape)} on {x.device} from perturb, got {got}")
    return x_adv.detach()


def _draws(watched: Watcher, seed: int, hashes: tuple[str, ...] | None) -> AbstractContextManager[Any]:
    """Returns what makes the draws of an attack on one batch by example, where hashes (N,) of its images are given."""
    if hashes is None:
        return nullcontext()
    rows = lambda: watched.origins.order  # noqa: E731 - as the watcher knows them at the time of the draw
    return DrawsByExample(keys_of(seed, hashes), watched.x, rows=rows, announce=watched.go_on_with)


def _check_support(attack: Attack, threat_model: ThreatModel) -> None:
    if reason := attack.supports(threat_model):
        raise HarnessError(f"attacks.{attack.name}: {reason}")


def _guarded(inputs: AttackInput) -> AbstractContextManager[ModuleLists]:
    """Guards both forms of the network, unless the caller does so already."""
    return guarded(inputs.model, inputs.form or inputs.model) if inputs.held is None else nullcontext(inputs.held)


@contextmanager
def _untouched(attack: Attack, networks: ModuleLists) -> Iterator[None]:
    """Holds an attack to the eval mode it was given, freezes what it thawed, and undoes what it did to BatchNorm's statistics.

    Raises:
        HarnessError: if it reached past the watcher and left a module in training mode.
    """
    with preserved_buffers(networks):
        yield
    for parameter in networks.parameters():
        if parameter.requires_grad:
            parameter.requires_grad_(False)
    count = sum(module.training for module in networks.modules())
    if count:
        raise HarnessError(f"attacks.{attack.name}: expected a network left in eval mode, got {count} modules in training mode")
