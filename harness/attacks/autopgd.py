"""APGD's step control on any objective: projected gradient ascent that halves an example's step size where progress stalls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

from harness.attacks.criterion import Criterion
from harness.system.lazy import torch
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn


Objective = Callable[["Tensor", "Tensor"], "Tensor"]
"""Logits (n, K) of the examples at some rows (n,) of the batch to values (n,), which the attack raises."""

MOMENTUM = 0.75
"""Weight of the new step; the rest goes on along the last one. Source: section 3 of the paper, alpha."""
FIRST_CHECKPOINT, LEAST_GAP, GAP_SHRINKS = 0.22, 0.06, 0.03
"""Shares of the steps: the first checkpoint, the smallest distance between two, and by how much each is shorter than the last."""
RISING = 0.75
"""Share of the steps between two checkpoints that must raise the objective. Source: section 3.2 of the paper, rho."""


class AutoPGD:
    """Searches the balls around the images of a batch, as often as it is asked to.

    An example with an adversarial takes no further part: it leaves the batch at once, and later searches go on without it.

    Args:
        model: Images (n, C, H, W) to logits (n, K).
        x: The original images (N, C, H, W).
        criterion: When an iterate is adversarial.
        threat_model: The norm, Linf or L2, and the budget.

    Source: Croce and Hein 2020, https://arxiv.org/abs/2003.01690, algorithm 1.
    """

    def __init__(self, model: nn.Module, x: Tensor, criterion: Criterion, *, threat_model: ThreatModel) -> None:
        """See the class."""
        from harness.attacks.gradients import followable

        self.model, self.x, self.criterion, self.threat_model = model, x, criterion, threat_model
        self.network = followable(model, threat_model.norm)
        self.x_adv = x.clone()
        """(N, C, H, W) the adversarial of each example, else its last iterate."""
        self.active = torch.arange(len(x), device=x.device)
        """(n,) the examples without an adversarial."""

    def ascend(self, objective: Objective, *, steps: int, generator: torch.Generator) -> None:
        """Raises an objective from random starts: `steps` forward and backward passes of an example, and one forward."""
        if not len(self.active):
            return
        self._announce()
        x, checkpoints, last_checkpoint = self.x[self.active], _checkpoints(steps), 0
        ascent = _Ascent.begun(x, random_start(x, self.threat_model, generator), 2 * float(self.threat_model.eps))
        for step in range(steps):
            ascent = self._evaluate(ascent, objective)
            if not len(self.active):
                return
            if step in checkpoints:
                ascent.halve_where_stalled(between=step - last_checkpoint)
                last_checkpoint = step
            ascent.move(self.threat_model, momentum=MOMENTUM if step else 1.0)
        with torch.no_grad():
            self._keep(ascent.x_adv, self.model(ascent.x_adv))

    def _evaluate(self, ascent: _Ascent, objective: Objective) -> _Ascent:
        """Finds objective and gradient at the last iterates, and returns the state of the examples without an adversarial."""
        x_adv = ascent.x_adv.detach().requires_grad_()
        logits = self.network(x_adv).float()
        value = objective(logits, self.active)
        (gradient,) = torch.autograd.grad(value.sum(), x_adv)
        ascent.note(value.detach(), gradient.nan_to_num(0.0, 0.0, 0.0))
        rest = self._keep(ascent.x_adv, logits.detach())
        return ascent if rest is None else ascent.at(rest)

    def _keep(self, x_adv: Tensor, logits: Tensor) -> Tensor | None:
        """Keeps iterates (n, C, H, W); returns which examples have none that is adversarial, positions (m,), None for all."""
        self.x_adv[self.active] = x_adv
        is_adversarial = self.criterion.is_adversarial(logits, self.active)
        if not is_adversarial.any():
            return None
        rest = (~is_adversarial).nonzero().flatten()
        self.active = self.active[rest]
        self._announce()
        return rest

    def _announce(self) -> None:
        from harness.attacks.watcher import Watcher

        if isinstance(self.model, Watcher):
            self.model.go_on_with(self.active)


@dataclass
class _Ascent:
    """Where the search is, for n examples."""

    x: Tensor
    """Their images (n, C, H, W)."""
    x_adv: Tensor
    """The last iterates (n, C, H, W)."""
    previous: Tensor
    """Those before them."""
    gradient: Tensor
    """Of the objective at the last iterates (n, C, H, W)."""
    value: Tensor
    """(n,) the objective at the last iterates."""
    best: Tensor
    """The iterates (n, C, H, W) with the largest objective."""
    best_gradient: Tensor
    best_value: Tensor
    step_size: Tensor
    """(n,) in pixel units."""
    rising: Tensor
    """(n,) how many steps since the last checkpoint raised the objective."""
    halved: Tensor
    """(n,) whether the step size was halved at the last checkpoint."""
    best_before: Tensor
    """(n,) the largest objective by then."""

    @classmethod
    def begun(cls, x: Tensor, start: Tensor, step_size: float) -> Self:
        """Returns the state at the start."""
        nothing, lowest = torch.zeros_like(x), torch.full((len(x),), -torch.inf, device=x.device)
        return cls(
            x=x,
            x_adv=start,
            previous=start,
            gradient=nothing,
            value=lowest,
            best=start.clone(),
            best_gradient=nothing.clone(),
            best_value=lowest.clone(),
            step_size=torch.full_like(lowest, step_size),
            rising=torch.zeros_like(lowest),
            halved=torch.zeros_like(lowest, dtype=torch.bool),
            best_before=lowest.clone(),
        )

    def at(self, rows: Tensor) -> Self:
        """Returns the state of the examples `rows`, positions (m,)."""
        return type(self)(**{it.name: getattr(self, it.name)[rows] for it in fields(self)})

    def note(self, value: Tensor, gradient: Tensor) -> None:
        """Takes over what was found at the last iterates."""
        self.rising += value > self.value
        self.value, self.gradient = value, gradient
        better = (value > self.best_value).nonzero().flatten()
        self.best[better], self.best_gradient[better] = self.x_adv[better], gradient[better]
        self.best_value[better] = value[better]

    def halve_where_stalled(self, *, between: int) -> None:
        """Halves step sizes and goes back to the best iterate, by the two conditions of section 3.2 of the paper."""
        few_rise = self.rising < RISING * between
        no_better = ~self.halved & (self.best_value <= self.best_before)
        self.halved, self.best_before = few_rise | no_better, self.best_value.clone()
        self.rising.zero_()
        rows = self.halved.nonzero().flatten()
        self.step_size[rows] /= 2
        self.x_adv = self.x_adv.index_copy(0, rows, self.best[rows])
        self.gradient[rows], self.value[rows] = self.best_gradient[rows], self.best_value[rows]

    def move(self, threat_model: ThreatModel, *, momentum: float) -> None:
        """Takes one step along the gradient, with momentum. Source: equation 3 of the paper."""
        step = self.step_size.view(-1, 1, 1, 1) * _steepest(self.gradient, threat_model.norm)
        stepped = threat_model.project(self.x_adv + step, self.x)
        moved = self.x_adv + momentum * (stepped - self.x_adv) + (1 - momentum) * (self.x_adv - self.previous)
        self.previous, self.x_adv = self.x_adv, threat_model.project(moved, self.x)


def random_start(x: Tensor, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
    """Returns images (N, C, H, W) on the boundaries of the balls around `x`, clipped to [0,1].

    Linf: uniform noise, scaled so that its largest value is eps. L2: a Gaussian direction of length eps.

    Source: the random starting points of APGD, Croce and Hein 2020, https://arxiv.org/abs/2003.01690.
    """
    if threat_model.norm is Norm.LINF:
        noise = torch.rand(x.shape, generator=generator, device=x.device) * 2 - 1
        length = noise.abs().amax(dim=(1, 2, 3))
    else:
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        length = torch.linalg.vector_norm(noise.flatten(1), dim=1)
    return threat_model.project(x + noise * (float(threat_model.eps) / length).view(-1, 1, 1, 1), x)


def _checkpoints(steps: int) -> frozenset[int]:
    """Returns after how many steps progress is looked at.

    >>> sorted(_checkpoints(50))
    [11, 21, 30, 38, 45]
    """
    gap, least, shrinks = (max(1, int(share * steps)) for share in (FIRST_CHECKPOINT, LEAST_GAP, GAP_SHRINKS))
    found, step = set(), gap
    while step < steps:
        found.add(step)
        gap = max(gap - shrinks, least)
        step += gap
    return frozenset(found)


def _steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Returns the direction (n, C, H, W) of length 1 in a norm that raises the objective most."""
    if norm is Norm.LINF:
        return gradient.sign()
    length = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
    return gradient / length.view(-1, 1, 1, 1)
