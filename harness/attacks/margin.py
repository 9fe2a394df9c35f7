"""The probability margin attack: APGD's step control on the margin between probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.passes import Passes
from harness.system.lazy import torch
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn


@ATTACKS.register
class PMA(Attack):
    """Raises the probability margin: that of the most likely wrong class less that of the true one.

    Source: Xie et al. 2024, https://arxiv.org/abs/2411.15210, section 3; the step control is APGD's, Croce and Hein 2020,
        https://arxiv.org/abs/2003.01690.
    """

    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF, Norm.L2})
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF, Norm.L2})
    TARGETED: ClassVar[bool] = True
    RETURNS_LAST: ClassVar[bool] = True

    name: Literal["pma"] = "pma"
    steps: int = Field(default=100, ge=1)
    """Number of gradient steps."""

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(self.steps + 1, self.steps)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.autopgd import AutoPGD
        from harness.attacks.criterion import Criterion

        objective = towards if threat_model.targeted else away_from
        search = AutoPGD(model, x, Criterion(y, targeted=threat_model.targeted), threat_model=threat_model)
        search.ascend(lambda logits, rows: objective(logits, y[rows]), steps=self.steps, generator=generator)
        return search.x_adv


def away_from(logits: Tensor, y: Tensor) -> Tensor:
    """Returns (n,) log(1 + margin) of the probability margin, max over i != y of p_i - p_y, which lies in [-1,1].

    It rises where the margin rises and its gradient has the same direction, but the margin itself rounds to -1, with a gradient
    of 0, where a network is confident. As the probabilities sum to 1, 1 + margin is the sum over i != y of p_i plus the largest
    of these.

    Args:
        logits: (n, K), K at least 2.
        y: The true classes (n,).

    >>> away_from(torch.tensor([[2.0, 2.0], [300.0, 0.0]]), torch.tensor([0, 0]))
    tensor([   0.0000, -299.3069])
    """
    others = logits.scatter(1, y[:, None], -torch.inf)
    return torch.logaddexp(others.logsumexp(dim=1), others.amax(dim=1)) - logits.logsumexp(dim=1)


def towards(logits: Tensor, target: Tensor) -> Tensor:
    """Returns (n,) -log(1 + margin), see `away_from`, for the class that is wanted."""
    return -away_from(logits, target)
