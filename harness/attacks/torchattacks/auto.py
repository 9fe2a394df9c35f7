"""The attacks that AutoAttack is made of, as far as they stay inside a budget: apgd-ce, apgd-t, square.

Source: Croce and Hein 2020, https://arxiv.org/abs/2003.01690; Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.classes import count_classes
from harness.attacks.passes import Passes
from harness.attacks.torchattacks.library import draw_seed, run_library
from harness.records.evidence import Access
from harness.system.lazy import torch
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn


LINF_AND_L2 = frozenset({Norm.LINF, Norm.L2})


class _AutoPGD(Attack):
    """Projected gradient ascent with momentum that halves its own step size when progress stalls."""

    VERSION: ClassVar[int] = 3
    NORMS: ClassVar[frozenset[Norm]] = LINF_AND_L2
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = LINF_AND_L2

    steps: int = Field(default=100, ge=1)
    """Number of gradient steps."""
    rho: float = Field(default=0.75, gt=0, le=1)
    """Share of steps that must raise the loss, else the step size is halved."""
    eot_iter: int = Field(default=1, ge=1)
    """Gradients averaged in each step, for networks with random outputs."""


@ATTACKS.register
class APGDCE(_AutoPGD):
    """APGD on the cross-entropy."""

    name: Literal["apgd-ce"] = "apgd-ce"

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        gradients = (self.steps + 1) * self.eot_iter
        return Passes(gradients + 1, gradients)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.gradients import followable_cross_entropy
        from harness.attacks.torchattacks.announced import AnnouncedAPGD

        attack = AnnouncedAPGD(
            followable_cross_entropy(model, threat_model),
            norm=threat_model.norm.value,
            eps=float(threat_model.eps),
            steps=self.steps,
            seed=draw_seed(generator),
            loss="ce",
            eot_iter=self.eot_iter,
            rho=self.rho,
        )
        return _run(attack, x, y)


@ATTACKS.register
class APGDT(_AutoPGD):
    """APGD on the targeted difference-of-logits ratio, for each of the most likely wrong classes in turn.

    The ratio is taken between four logits: the model must have at least four classes. In L2 it is not run by example: the
    library's steps have the size of the first example's for the whole batch.
    """

    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})

    LEAST_CLASSES: ClassVar[int] = 4
    MARGIN: ClassVar[bool] = True

    name: Literal["apgd-t"] = "apgd-t"
    targets: int = Field(default=9, ge=1)
    """Number of wrong classes that are tried, most likely first; all where the model has fewer."""

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        gradients, targets = (self.steps + 1) * self.eot_iter, min(self.targets, classes - 1)
        return Passes((gradients + 1) * targets + 2, gradients * targets)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.gradients import followable
        from harness.attacks.torchattacks.announced import AnnouncedAPGDT

        classes = count_classes(model, x, attack=self.name, least=self.LEAST_CLASSES)
        attack = AnnouncedAPGDT(
            followable(model, threat_model.norm),
            norm=threat_model.norm.value,
            eps=float(threat_model.eps),
            steps=self.steps,
            seed=draw_seed(generator),
            eot_iter=self.eot_iter,
            rho=self.rho,
            n_classes=min(self.targets + 1, classes),
        )
        return _run(attack, x, y)


@ATTACKS.register
class Square(Attack):
    """Random search with square patches; uses the logits only, so masked gradients do not help against it.

    In L2 the library's search leaves examples out without a word, so that whose images it passes is a guess: it is not run by
    example.
    """

    VERSION: ClassVar[int] = 2
    NORMS: ClassVar[frozenset[Norm]] = LINF_AND_L2
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})
    ACCESS: ClassVar[Access] = "black_box"
    MARGIN: ClassVar[bool] = True
    TARGETED: ClassVar[bool] = True

    name: Literal["square"] = "square"
    queries: int = Field(default=5000, ge=1)
    """Random changes that are tried on each example, one forward pass each. Three passes more see the image, the start of the
    search and its end: 100 queries are 103 forward passes of an example without success."""
    p_init: float = Field(default=0.8, gt=0, le=1)
    """Share of the image that the first patch covers."""
    rescale_schedule: bool = False
    """Shrink the patches over the given number of queries instead of over 10,000 as in the paper."""
    loss: Literal["margin", "ce"] = "margin"
    """What is minimised."""

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(self.queries + 3)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.torchattacks.square import TieAwareSquare

        attack = TieAwareSquare(
            model,
            norm=threat_model.norm.value,
            eps=float(threat_model.eps),
            n_queries=self.queries,
            p_init=self.p_init,
            loss=self.loss,
            resc_schedule=self.rescale_schedule,
            seed=draw_seed(generator),
        )
        return run_library(attack, x, y, targeted=threat_model.targeted)


def _run(attack: Any, x: Tensor, y: Tensor) -> Tensor:
    """Runs the library's APGD without autograd, which it turns on for its passes itself.

    It writes adversarials into a tensor outside of those: with autograd the graph of that tensor would hold the images of all
    steps.
    """
    with torch.no_grad():
        return run_library(attack, x, y)
