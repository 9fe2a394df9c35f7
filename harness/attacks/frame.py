"""Runs one attack on one batch and judges what it returns: the plug-in computes, the frame measures.

Source: Carlini et al. 2019, "On evaluating adversarial robustness", https://arxiv.org/abs/1902.06705: keep the best
    iterate, verify that adversarials are valid, attack only what is classified correctly.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.attacks.evidence import Evidence, GradientFaults, evidence_of
from harness.attacks.goals import Goal
from harness.attacks.keeper import Keeper
from harness.attacks.watcher import TOLERANCE, AllBroken, Breaker, Shrinker, Watcher
from harness.errors import HarnessError
from harness.system.modes import ModuleLists, guarded, preserved_buffers
from harness.system.seeds import global_seed, seed_of
from harness.threat import ThreatModel, largest_change


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack achieved on one batch, as judged by the real network in float32."""

    x_adv: Tensor
    """Images (N, C, H, W) inside ball and bounds: the adversarial where there is one, else the attack's last image."""
    logits: Tensor
    """Logits (N, K) of the real network on `x_adv`."""
    fooled: Tensor
    """(N,) whether `x_adv` is misclassified, or classified as the target."""
    distance: Tensor
    """(N,) size of the perturbation in the threat model's norm."""
    evidence: Evidence
    """Passes, gradients and violations, for counts and sanity checks."""


@dataclass(frozen=True, eq=False)
class NearestResult:
    """The smallest perturbations that a minimum-norm attack found on one batch."""

    x_adv: Tensor
    """Images (N, C, H, W): the nearest adversarial, else the image that the attack returned."""
    distance: Tensor
    """(N,) distance of the nearest adversarial; inf where none was found."""
    evidence: Evidence

    def at(self, rows: Tensor) -> "NearestResult":
        """Returns the result of the examples `rows`, a mask or positions; the evidence stays that of the whole batch."""
        return NearestResult(self.x_adv[rows], self.distance[rows], self.evidence)


@dataclass(frozen=True, eq=False)
class Victim:
    """A network and the examples of one batch that are to be attacked.

    Raises:
        HarnessError: if `x` are no images in [0,1], or the labels do not fit them.
    """

    model: nn.Module
    """The real network, images (N, C, H, W) in [0,1] to logits (N, K); it alone decides what counts."""
    x: Tensor
    """Images (N, C, H, W), float32 in [0,1]."""
    y: Tensor
    """True labels (N,), int64, or the wanted classes where the threat model is targeted."""
    form: nn.Module | None = None
    """The network in the form that attacks differentiate; the real one if not given."""
    held: ModuleLists | None = None
    """What `guarded` gives out for both, where the caller guards them for all batches of a sweep."""

    def __post_init__(self) -> None:
        """Checks the examples."""
        if self.x.dim() != 4 or self.x.dtype != torch.float32:
            raise HarnessError(f"attack: expected float32 images (N, C, H, W), got {self.x.dtype} of shape {tuple(self.x.shape)}")
        if len(self.x):
            low, high = map(float, self.x.aminmax())
            if not (low >= 0 and high <= 1):
                raise HarnessError(f"attack: expected images in [0,1], got values from {low:.4g} to {high:.4g}")
        if self.y.shape != self.x.shape[:1] or self.y.dtype != torch.int64:
            raise HarnessError(f"attack: expected int64 labels ({len(self.x)},), got {self.y.dtype} {tuple(self.y.shape)}")

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images that the network computes in; that of `x` where it says nothing."""
        return getattr(self.form, "memory_format", torch.preserve_format)

    def at(self, rows: Tensor) -> "Victim":
        """Returns the same network with the examples `rows` (n,) only."""
        return replace(self, x=self.x[rows], y=self.y[rows])


def restart_seed(seed: int, restart: int) -> int:
    """Returns the seed that the global generators and the attack's own one get for one restart."""
    return seed_of(seed, "restart", restart)


def run_attack(
    attack: Attack, victim: Victim, *, threat_model: ThreatModel, seed: int, best_of_iterates: bool = True
) -> AttackResult:
    """Attacks a batch and judges the outcome.

    The network, its modes and gradients, the images and all random state stay as they were.

    Args:
        attack: The plug-in.
        victim: The network and the batch.
        threat_model: Norm and budget.
        seed: Seeds every random choice of the attack.
        best_of_iterates: Count any iterate that is inside the ball and misclassified, and stop what is broken; else
            the result is what the library itself returns, bit for bit. Only of an example that is not broken, and whose
            last iterate the attack does not return, it is the most promising image that the attack showed, see `Keeper`.

    Raises:
        HarnessError: if the attack cannot run under this threat model, returns something of another shape or type, or
            leaves the network in training mode.
    """
    _check_support(attack, threat_model)
    if attack.MINIMUM_NORM and best_of_iterates:
        return within(find_nearest(attack, victim, threat_model=threat_model, seed=seed), victim, threat_model=threat_model)
    state = _State(victim.x)
    with _guarded(victim) as networks:
        for restart in range(1 if attack.RESTARTS_INSIDE else attack.restarts):
            rows = (~state.fooled).nonzero().flatten()
            if len(rows):
                rest = victim if len(rows) == len(victim.x) else victim.at(rows)
                layout = victim.memory_format if threat_model.norm in attack.ANY_LAYOUT else torch.preserve_format
                watched = _watch(attack, rest, threat_model, layout=layout, best_of_iterates=best_of_iterates)
                with _untouched(attack, networks):
                    returned = _perturb(attack, watched, threat_model, seed=restart_seed(seed, restart))
                state.take(rows, watched, returned, model=victim.model)
    distance = threat_model.distance(state.x_adv, victim.x)
    return AttackResult(state.x_adv, state.known_logits(), state.fooled, distance, state.evidence + state.faults.evidence)


def find_nearest(attack: Attack, victim: Victim, *, threat_model: ThreatModel, seed: int) -> NearestResult:
    """Runs a minimum-norm attack and returns the nearest adversarial of each example, whatever its distance.

    Args:
        attack: The plug-in; every iterate that it shows the network is considered.
        victim: The network and the batch.
        threat_model: The norm, and the largest budget of interest (a hint for the attack).
        seed: Seeds every random choice of the attack.

    Raises:
        HarnessError: as `run_attack`.
    """
    _check_support(attack, threat_model)
    x_adv, evidence, faults = victim.x.clone(), Evidence(), GradientFaults(victim.x)
    nearest = torch.full((len(x_adv),), torch.inf, device=x_adv.device)
    rows = torch.arange(len(x_adv), device=x_adv.device)
    with _guarded(victim) as networks:
        for restart in range(1 if attack.RESTARTS_INSIDE else attack.restarts) if len(x_adv) else ():
            goal = Goal(victim.y, targeted=threat_model.targeted)
            watched = Shrinker(victim.form or victim.model, victim.x, goal, threat_model=threat_model, judge=victim.model)
            with _untouched(attack, networks):
                returned = _perturb(attack, watched, threat_model, seed=restart_seed(seed, restart))
            last = victim.x if returned is None else returned
            with torch.no_grad():
                watched.forwards += len(last)
                watched.consider(last, rows, victim.model(last))
            better = watched.distance < nearest
            nearest = torch.where(better, watched.distance, nearest)
            unknown = nearest.isinf()
            x_adv[better], x_adv[unknown] = watched.best[better], last[unknown]
            faults.note(rows, watched)
            nothing_lost, lengths = unknown[:0], torch.zeros_like(nearest)  # an attack that ignores the budget leaves no ball
            finite = largest_change(last, victim.x).isfinite()
            evidence += evidence_of(
                watched, silent=nothing_lost, violation=lengths.where(finite, torch.inf)[unknown], fooled=better
            )
    return NearestResult(x_adv, nearest, evidence + faults.evidence)


def within(nearest: NearestResult, victim: Victim, *, threat_model: ThreatModel) -> AttackResult:
    """Judges the findings of a minimum-norm attack at one budget: what lies further off is projected into the ball."""
    outside = nearest.distance > float(threat_model.eps) + TOLERANCE
    x_adv = torch.where(outside.view(-1, 1, 1, 1), threat_model.project(nearest.x_adv, victim.x), nearest.x_adv)
    with _guarded(victim), torch.no_grad():
        logits = victim.model(x_adv).float()
    goal = Goal(victim.y, targeted=threat_model.targeted)
    fooled = goal.reached(logits, torch.arange(len(x_adv), device=x_adv.device))
    return AttackResult(x_adv, logits, fooled, threat_model.distance(x_adv, victim.x), nearest.evidence)


class _State:
    """The findings so far, over the restarts of an attack on one batch."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.x_adv = x, torch.empty_like(x)  # the first restart settles every example
        self.fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.logits: Tensor | None = None
        self.evidence, self.faults = Evidence(), GradientFaults(x)

    def take(self, rows: Tensor, watched: Watcher, returned: Tensor | None, *, model: nn.Module) -> None:
        """Judges what one restart made of the examples `rows`."""
        self.faults.note(rows, watched)
        kept = watched.found if isinstance(watched, Breaker) else torch.zeros_like(watched.found)
        if isinstance(watched, Breaker) and watched.logits is not None:
            self._store(rows[kept], watched.best[kept], watched.logits[kept])
        self.fooled[rows[kept]] = True
        rest = (~kept).nonzero().flatten()
        silent, violation = torch.zeros_like(kept), self.x.new_zeros(0)
        if returned is not None and isinstance(watched, Breaker):
            silent = self._lost(rows, watched, returned, model=model)
        if returned is not None and len(rest):
            last = returned[rest]
            violation = watched.threat_model.violation(last, watched.x[rest])
            inside = _into_the_ball(last, self.x, rows[rest], violation=violation, threat_model=watched.threat_model)
            with torch.no_grad():
                watched.forwards += len(rest)
                logits = model(inside).float()
            success = watched.goal.reached(logits, rest)
            silent[rest] = watched.found[rest] & watched.certain[rest] & ~success
            self._store(rows[rest], inside, logits)
            self.fooled[rows[rest]] = success
            if isinstance(watched, Keeper):
                closer, inside, logits = watched.closer_than(inside, logits, ~success, model=model)
                self._store(rows[closer], inside, logits)
        self.evidence += evidence_of(watched, silent=silent, violation=violation, fooled=self.fooled[rows])

    def _lost(self, rows: Tensor, watched: Breaker, returned: Tensor, *, model: nn.Module) -> Tensor:
        """Returns (n,) whether the attack gave up an adversarial that the frame had kept: what it returned is none."""
        lost = watched.given_up(returned)
        changed = lost.nonzero().flatten()
        if len(changed):
            last = returned[changed]
            violation = watched.threat_model.violation(last, watched.x[changed])
            inside = _into_the_ball(last, self.x, rows[changed], violation=violation, threat_model=watched.threat_model)
            with torch.no_grad():
                watched.forwards += len(changed)
                lost[changed] = ~watched.goal.reached(model(inside), changed)
        return lost

    def known_logits(self) -> Tensor:
        """Returns the logits of all images; those of an empty batch have no classes."""
        return self.x.new_zeros(0, 0) if self.logits is None else self.logits

    def _store(self, rows: Tensor, x_adv: Tensor, logits: Tensor) -> None:
        if self.logits is None:
            self.logits = logits.new_zeros(len(self.x), logits.shape[1])
        self.x_adv[rows], self.logits[rows] = x_adv, logits


def _into_the_ball(x_adv: Tensor, x: Tensor, rows: Tensor, *, violation: Tensor, threat_model: ThreatModel) -> Tensor:
    """Projects what lies outside the balls around the `rows` of `x`; what is inside stays as it is. Laid out in memory as `x`."""
    inside = torch.empty_like(x[: len(rows)]).copy_(x_adv)
    outside = (violation > TOLERANCE).nonzero().flatten()
    if len(outside):
        inside[outside] = threat_model.project(inside[outside], x[rows[outside]])
    return inside


def _watch(
    attack: Attack, victim: Victim, threat_model: ThreatModel, *, layout: torch.memory_format, best_of_iterates: bool
) -> Watcher:
    """Returns the watcher of an attack whose iterates have that layout: tensors of one layout are quick to compare."""
    goal, x = Goal(victim.y, targeted=threat_model.targeted), victim.x.to(memory_format=layout)
    form = victim.form or victim.model
    if best_of_iterates:
        return Breaker(form, x, goal, threat_model=threat_model, judge=victim.model)
    return (Watcher if attack.RETURNS_LAST else Keeper)(form, x, goal, threat_model=threat_model)


def _perturb(attack: Attack, watched: Watcher, threat_model: ThreatModel, *, seed: int) -> Tensor | None:
    """Returns what the attack returned, or None where it was stopped because all examples are broken."""
    x, y = watched.x.clone(), watched.goal.y.clone()
    generator = torch.Generator(device=x.device).manual_seed(seed)
    try:
        with global_seed(seed), torch.enable_grad():
            x_adv = attack.perturb(watched, x, y, threat_model=threat_model, generator=generator)
    except AllBroken:
        return None
    if not isinstance(x_adv, Tensor) or (x_adv.shape, x_adv.dtype, x_adv.device) != (x.shape, x.dtype, x.device):
        got = f"{x_adv.dtype} {tuple(x_adv.shape)} on {x_adv.device}" if isinstance(x_adv, Tensor) else type(x_adv).__name__
        raise HarnessError(f"attacks.{attack.name}: expected {x.dtype} {tuple(x.shape)} on {x.device} from perturb, got {got}")
    return x_adv.detach()


def _check_support(attack: Attack, threat_model: ThreatModel) -> None:
    if reason := attack.supports(threat_model):
        raise HarnessError(f"attacks.{attack.name}: {reason}")


def _guarded(victim: Victim) -> AbstractContextManager[ModuleLists]:
    """Guards both forms of the network, unless the caller does so already."""
    return guarded(victim.model, victim.form or victim.model) if victim.held is None else nullcontext(victim.held)


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
