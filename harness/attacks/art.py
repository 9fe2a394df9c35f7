"""PGD and AutoPGD of the Adversarial Robustness Toolbox: second implementations to check the first ones against."""

from fractions import Fraction
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from pydantic import Field
from torch import Tensor, nn

from harness.attacks.base import ATTACKS
from harness.attacks.classes import count_classes
from harness.attacks.gradients import followable, followable_cross_entropy
from harness.attacks.passes import Passes
from harness.attacks.stepwise import Stepwise
from harness.spec import Eps
from harness.threat import L1_ROUNDING, Norm, ThreatModel

RATIO_CLASSES = 3
"""The difference-of-logits ratio divides by the distance from the first logit to the third."""
ORDERS = {Norm.LINF: np.inf, Norm.L2: 2, Norm.L1: 1}


class _BelowZero(nn.Module):
    """Shifts the logits of each image so that the largest is 0: losses stay, and none looks like probabilities.

    ART's AutoPGD refuses a network whose outputs for a white image lie in [0,1] and add up to 1. That a network's outputs are
    probabilities is for the checks of this project to say, whatever the attack.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits = cast(Tensor, self.model(x))
        return logits - logits.detach().amax(dim=1, keepdim=True)


class _PGD(ProjectedGradientDescentPyTorch):  # type: ignore[misc]  # the library has no types
    """ART's PGD, whose steps in L1 know where [0,1] ends.

    The library's step in L1 moves the one value with the largest gradient. Once that value is at 0 or 1 the clipping takes the
    step back, and the next one chooses the same value again (ART 1.20.1). Here a step of the same length leads towards the
    best point of the ball inside [0,1], to which a linear network would be followed in the end; it needs no projection.
    """

    def _compute_pytorch(self, x: Tensor, x_init: Tensor, *settings: Any) -> Tensor:
        """Returns the next images (N, C, H, W) from the present ones `x` and the original ones `x_init`."""
        self._originals = x_init
        return cast(Tensor, super()._compute_pytorch(x, x_init, *settings))

    def _compute_perturbation_pytorch(self, x: Tensor, y: Tensor, mask: Tensor | None, momentum: Tensor) -> Tensor:
        """Returns the direction (N, C, H, W) of a step, which the library multiplies by its size."""
        if self.norm != ORDERS[Norm.L1]:
            return cast(Tensor, super()._compute_perturbation_pytorch(x, y, mask, momentum))
        gradient = self.estimator.loss_gradient(x=x, y=y) * (-1 if self.targeted else 1)
        way = best_l1_point(gradient, self._originals, eps=self.eps) - x
        length = way.abs().sum(dim=(1, 2, 3), keepdim=True)
        leads = (gradient.isfinite() & (gradient != 0)).flatten(1).any(dim=1).view(-1, 1, 1, 1)
        return torch.where(leads, way / length.clamp(min=self.eps_step), 0.0)


def best_l1_point(gradient: Tensor, x: Tensor, *, eps: float) -> Tensor:
    """Returns the points (N, C, H, W) of the L1 balls around images, inside [0,1], at which a linear function is largest.

    Values move as far as [0,1] lets them, those with the largest gradients first, until the budget is used up.

    Args:
        gradient: Of the function, (N, C, H, W); entries that are not finite count as 0.
        x: The images (N, C, H, W) in [0,1].
        eps: Radius of the balls.

    Source: the linear step of Frank and Wolfe 1956, "An algorithm for quadratic programming", over the ball and the box.
    """
    slopes, values = torch.where(gradient.isfinite(), gradient, 0.0).flatten(1), x.flatten(1)
    room = torch.where(slopes > 0, 1 - values, values) * (slopes != 0)
    order = slopes.abs().argsort(dim=1, descending=True)
    wanted = room.gather(1, order)
    left = (eps - (wanted.cumsum(dim=1) - wanted)).clamp(min=0)
    change = torch.zeros_like(room).scatter(1, order, torch.minimum(wanted, left)) * slopes.sign()
    return (values + change).view(x.shape)


def _estimator(network: nn.Module, x: Tensor, *, classes: int) -> PyTorchClassifier:
    return PyTorchClassifier(
        model=_BelowZero(network),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type=str(x.device),
    )


def _radius(threat_model: ThreatModel, x: Tensor) -> float:
    """Returns the budget for images like `x` (N, C, H, W), in L1 less what rounding adds up to, so that iterates lie inside."""
    eps = float(threat_model.eps)
    return eps if threat_model.norm is not Norm.L1 else max(eps - L1_ROUNDING * x[0].numel() ** 0.5, eps / 2)


def _generate(attack: Any, x: Tensor, y: Tensor) -> Tensor:
    found = attack.generate(x.cpu().numpy(), y.cpu().numpy())
    return torch.from_numpy(found).to(x)


@ATTACKS.register
class ARTPGD(Stepwise):
    """PGD as ART implements it.

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
        network, classes = followable_cross_entropy(model, threat_model), count_classes(model, x, attack=self.name)
        attack = _PGD(
            _estimator(network, x, classes=classes),
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

    Its L1 form is left out: it misses adversarials of a linear net (see `harness.evaluation.attack_test`).

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
        classes = count_classes(model, x, attack=self.name, least=self._least_classes)
        attack = AutoProjectedGradientDescent(
            _estimator(self._followable(model, threat_model), x, classes=classes),
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
        if self.loss == "cross_entropy":
            return followable_cross_entropy(model, threat_model)
        return followable(model, threat_model.norm)
