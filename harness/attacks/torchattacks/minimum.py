"""Attacks that seek the smallest perturbation: fab, cw, deepfool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.classes import count_classes
from harness.attacks.passes import Passes
from harness.attacks.torchattacks.library import run_library, torchattacks
from harness.system.lazy import torch
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn


class _MinimumNorm(Attack):
    """Base of the attacks of this file."""

    VERSION: ClassVar[int] = 2
    MINIMUM_NORM: ClassVar[bool] = True


@ATTACKS.register
class FAB(_MinimumNorm):
    """Fast adaptive boundary attack: projects onto the linearised decision boundary and moves back towards the image.

    It is run by example only where this project's own loop does it: in Linf, towards classes, without random restarts. The
    library's leaves examples out without a word, so that whose images it passes is a guess.

    Source: Croce and Hein 2020, https://arxiv.org/abs/1907.02044, algorithm 1.
    """

    VERSION: ClassVar[int] = 3
    NORMS: ClassVar[frozenset[Norm]] = frozenset(Norm)
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})
    RESTARTS_INSIDE: ClassVar[bool] = True
    MARGIN: ClassVar[bool] = True

    name: Literal["fab"] = "fab"
    steps: int = Field(default=100, ge=1)
    """Number of projections for each target class and restart."""
    targets: int = Field(default=9, ge=0)
    """Number of wrong classes that are tried, most likely first; 0 looks at all boundaries in every step instead."""
    alpha_max: float = Field(default=0.1, gt=0, le=1)
    """Largest weight of the way back to the image."""
    eta: float = Field(default=1.05, ge=1)
    """Overshoot beyond the linearised boundary."""
    beta: float = Field(default=0.9, gt=0, le=1)
    """How far an adversarial is moved back towards the image before the next step."""

    def keeps_examples_apart(self, norm: Norm) -> bool:
        """See `Attack.keeps_examples_apart`."""
        return super().keeps_examples_apart(norm) and self.targets > 0 and self.restarts == 1

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        targets = min(self.targets, classes - 1) if self.targets else 1
        once = Passes(2 * self.steps + 2, self.steps)
        return once.times(targets * self.restarts).and_also(Passes(1))

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`; the library's own loop would skip classes once an example is inside the budget."""
        from harness.attacks.torchattacks.boundary import SortFreeFAB

        classes = count_classes(model, x, attack=self.name)
        attack = SortFreeFAB(
            model,
            norm=threat_model.norm.value,
            eps=float(threat_model.eps),
            steps=self.steps,
            alpha_max=self.alpha_max,
            eta=self.eta,
            beta=self.beta,
            multi_targeted=self.targets > 0,
        )
        best, nearest = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
        for restart in range(self.restarts):
            for rank in range(2, min(self.targets + 1, classes) + 1) if self.targets else (None,):
                x_adv = _single_run(attack, x, y, rank=rank, random_start=restart > 0)
                distance = threat_model.distance(x_adv, x)
                better = (distance > 0) & (distance < nearest)
                best[better], nearest[better] = x_adv[better], distance[better]
        return best


def _single_run(attack: Any, x: Tensor, y: Tensor, *, rank: int | None, random_start: bool) -> Tensor:
    """Runs FAB once, towards the class of that rank by logit or to any; what is not adversarial then comes back unchanged."""
    with torch.no_grad():
        if rank is None:
            return cast(torch.Tensor, attack.attack_single_run(x, y, use_rand_start=random_start))
        attack.target_class = rank
        return cast(torch.Tensor, attack.attack_single_run_targeted(x, y, use_rand_start=random_start))


@ATTACKS.register
class CW(_MinimumNorm):
    """Carlini and Wagner's attack: Adam on distance plus weighted margin, in tanh space.

    The library has no binary search for the weight c; here c is raised tenfold a search step, which succeeds where a
    small c does not, while a small c gives nearer adversarials. It is not run by example: the library ends a search step for the
    whole batch once the sum of all losses rises.

    Source: Carlini and Wagner 2017, https://arxiv.org/abs/1608.04644, section V.
    """

    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.L2})
    TARGETED: ClassVar[bool] = True

    name: Literal["cw"] = "cw"
    steps: int = Field(default=50, ge=1)
    """Number of Adam steps of each search step."""
    c: float = Field(default=0.1, gt=0)
    """First weight of the margin."""
    search_steps: int = Field(default=3, ge=1, le=9)
    """Number of weights tried, each ten times the one before."""
    kappa: float = Field(default=0.0, ge=0)
    """Margin by which an adversarial must be wrong."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Learning rate of Adam."""

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(self.steps, self.steps).times(self.search_steps)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.torchattacks.nonnegative import NonNegative

        best, nearest = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
        shifted = NonNegative(model)
        for step in range(self.search_steps):
            weight = self.c * 10**step
            attack = torchattacks.CW(shifted, c=weight, kappa=self.kappa, steps=self.steps, lr=self.learning_rate)
            x_adv = run_library(attack, x, y, targeted=threat_model.targeted)
            distance = threat_model.distance(x_adv, x)
            better = (distance > 0) & (distance < nearest)
            best[better], nearest[better] = x_adv[better], distance[better]
        return best


@ATTACKS.register
class DeepFool(_MinimumNorm):
    """Repeated steps onto the nearest linearised decision boundary, one image at a time.

    It is not run by example: passes of one size would make each of its steps cost a batch.

    Source: Moosavi-Dezfooli et al. 2016, https://arxiv.org/abs/1511.04599, algorithm 2.
    """

    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.L2})

    name: Literal["deepfool"] = "deepfool"
    steps: int = Field(default=50, ge=1)
    """Largest number of steps."""
    overshoot: float = Field(default=0.02, ge=0)
    """Share by which a step goes beyond the boundary."""

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(self.steps, self.steps)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        return run_library(torchattacks.DeepFool(model, steps=self.steps, overshoot=self.overshoot), x, y)
