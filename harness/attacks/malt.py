"""MALT: a targeted attack on the wrong classes whose boundaries are nearest if the network is linear around the image."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.passes import Passes
from harness.system.lazy import torch
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn

DUAL = {Norm.LINF: 1, Norm.L2: 2}
"""Order of the dual norm, in which gradients are measured."""


@ATTACKS.register
class MALT(Attack):
    """APGD towards one wrong class after another, those first whose boundary is nearest by the network's gradients.

    Source: Melamed et al. 2024, https://arxiv.org/abs/2407.02240, algorithm 1; the step control is APGD's, Croce and Hein 2020,
        https://arxiv.org/abs/2003.01690.
    """

    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF, Norm.L2})
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF, Norm.L2})
    MARGIN: ClassVar[bool] = True
    RETURNS_LAST: ClassVar[bool] = True

    name: Literal["malt"] = "malt"
    steps: int = Field(default=100, ge=1)
    """Number of gradient steps for each target class."""
    targets: int = Field(default=9, ge=1)
    """Number of wrong classes that are tried, nearest first; all where the model has fewer."""
    candidates: int = Field(default=100, ge=1)
    """Number of wrong classes that are put in order, most likely first; each takes one backward pass."""

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        targets = min(self.targets, classes - 1)
        return Passes(1, 1).and_also(Passes(self.steps + 1, self.steps).times(targets))

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.autopgd import AutoPGD
        from harness.attacks.criterion import Criterion

        order = malt_order(model, x, y, norm=threat_model.norm, candidates=self.candidates)
        search = AutoPGD(model, x, Criterion(y, targeted=False), threat_model=threat_model)
        for target in order[:, : self.targets].unbind(dim=1):
            search.ascend(partial(_gap, y, target), steps=self.steps, generator=generator)
        return search.x_adv


def malt_order(model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, candidates: int) -> Tensor:
    """Returns the most likely wrong classes (n, candidates), nearest first.

    The distance of a class is the difference between its logit and that of the true class, over the dual norm of the gradient
    of this difference: the distance to the boundary between the two, if both logits were linear.

    Args:
        model: Images (n, C, H, W) to logits (n, K).
        x: Images (n, C, H, W).
        y: Their true classes (n,).
        norm: That of the perturbations, Linf or L2.
        candidates: How many wrong classes are put in order; all where there are fewer.

    Source: Melamed et al. 2024, https://arxiv.org/abs/2407.02240, definition of MALT in section 3.
    """
    x = x.detach().requires_grad_()
    logits = model(x).float()
    own, others = logits.gather(1, y[:, None])[:, 0], logits.detach().scatter(1, y[:, None], -torch.inf)
    likely = others.topk(min(candidates, logits.shape[1] - 1), dim=1).indices
    distances = []
    for target in likely.unbind(dim=1):
        gap = own - logits.gather(1, target[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(gap.sum(), x, retain_graph=True)
        length = torch.linalg.vector_norm(gradient.flatten(1), ord=DUAL[norm], dim=1, dtype=torch.float64)
        distances.append(gap.detach() / length)
    nearest = torch.stack(distances, dim=1).nan_to_num(torch.inf).argsort(dim=1, stable=True)
    return likely.gather(1, nearest)


def _gap(y: Tensor, target: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
    """Returns (n,) how far the logits of the target classes lie above those of the true ones."""
    return (logits.gather(1, target[rows, None]) - logits.gather(1, y[rows, None]))[:, 0]
