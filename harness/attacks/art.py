"""PGD and AutoPGD of the Adversarial Robustness Toolbox: second implementations to check the first ones against."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from harness.attacks.art_directions import ORDERS, best_l1_point
from harness.attacks.base import ATTACKS
from harness.attacks.classes import count_classes
from harness.attacks.passes import Passes
from harness.attacks.stepwise import Stepwise
from harness.spec import Eps
from harness.system.lazy import torch
from harness.threat import L1_ROUNDING, Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ARTPGD", "ARTAutoPGD", "best_l1_point"]

RATIO_CLASSES = 3
"""The difference-of-logits ratio divides by the distance from the first logit to the third."""


def _radius(threat_model: ThreatModel, x: Tensor) -> float:
    """Returns the budget for images like `x` (N, C, H, W), in L1 less what rounding adds up to, so that iterates lie inside."""
    eps = float(threat_model.eps)
    return eps if threat_model.norm is not Norm.L1 else max(eps - L1_ROUNDING * x[0].numel() ** 0.5, eps / 2)


def _generate(attack: Any, x: Tensor, y: Tensor) -> Tensor:
    found = attack.generate(x.cpu().numpy(), y.cpu().numpy())
    return torch.from_numpy(found).to(x)


@ATTACKS.register
class ARTPGD(Stepwise):
    """PGD as ART implements it; as ART draws for a batch with NumPy, it is not run by example.

    Source: Madry et al. 2018, https://arxiv.org/abs/1706.06083, section 2.1.
    """

    VERSION: ClassVar[int] = 2
    NORMS: ClassVar[frozenset[Norm]] = frozenset(Norm)
    RETURNS_LAST: ClassVar[bool] = True

    name: Literal["art-pgd"] = "art-pgd"
    random_start: bool = True
    """Start at a random point of the ball instead of the image itself."""

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(self.steps + 3, self.steps)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.art_library import SaturatingPGD, estimator
        from harness.attacks.gradients import followable_cross_entropy

        network, classes = followable_cross_entropy(model, threat_model), count_classes(model, x, attack=self.name)
        attack = SaturatingPGD(
            estimator(network, x, classes=classes),
            norm=ORDERS[threat_model.norm],
            eps=_radius(threat_model, x),
            eps_step=self.step_size(threat_model),
            max_iter=self.steps,
            targeted=threat_model.targeted,
            num_random_init=int(self.random_start),
            batch_size=len(x),
            verbose=False,
        )
        return _generate(attack, x, y)


@ATTACKS.register
class ARTAutoPGD(Stepwise):
    """APGD as ART implements it; it starts with a step of twice the budget and halves it by itself.

    Its L1 form is left out: it misses adversarials of a linear net (see `harness.evaluation.attack_test`). As ART draws for a
    batch with NumPy, it is not run by example.

    Source: Croce and Hein 2020, https://arxiv.org/abs/2003.01690, algorithm 1.
    """

    VERSION: ClassVar[int] = 2
    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF, Norm.L2})

    name: Literal["art-autopgd"] = "art-autopgd"
    steps: int = Field(default=100, ge=1)
    """Number of gradient steps."""
    alpha_relative: Eps = Field(default=Fraction(2), gt=0)
    """First step size as a share of the budget; not used where `alpha` is given."""
    loss: Literal["cross_entropy", "difference_logits_ratio"] = "cross_entropy"
    """What is maximised; the ratio needs at least three classes."""

    @property
    def _least_classes(self) -> int:
        return RATIO_CLASSES if self.loss == "difference_logits_ratio" else self.LEAST_CLASSES

    def supports_classes(self, classes: int) -> str | None:
        """See `Attack.supports_classes`."""
        if classes < self._least_classes:
            return f"{self.name} with loss {self.loss} needs at least {self._least_classes} classes, this model has {classes}"
        return None

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(2 * self.steps + 5, self.steps)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from art.attacks.evasion import AutoProjectedGradientDescent

        from harness.attacks.art_library import estimator

        classes = count_classes(model, x, attack=self.name, least=self._least_classes)
        attack = AutoProjectedGradientDescent(
            estimator(self._followable(model, threat_model), x, classes=classes),
            norm=ORDERS[threat_model.norm],
            eps=float(threat_model.eps),
            eps_step=self.step_size(threat_model),
            max_iter=self.steps,
            targeted=threat_model.targeted,
            nb_random_init=1,
            batch_size=len(x),
            loss_type=self.loss,
            verbose=False,
        )
        return _generate(attack, x, y)

    def _followable(self, model: nn.Module, threat_model: ThreatModel) -> nn.Module:
        from harness.attacks.gradients import followable, followable_cross_entropy

        if self.loss == "cross_entropy":
            return followable_cross_entropy(model, threat_model)
        return followable(model, threat_model.norm)
