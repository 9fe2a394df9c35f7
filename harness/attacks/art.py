"""PGD and AutoPGD of the Adversarial Robustness Toolbox: second implementations to check the first ones against."""

from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from pydantic import Field
from torch import Tensor, nn

from harness.attacks.base import ATTACKS
from harness.attacks.classes import count_classes
from harness.attacks.stepwise import Stepwise
from harness.spec import Eps
from harness.threat import Norm, ThreatModel

ORDERS = {Norm.LINF: np.inf, Norm.L2: 2, Norm.L1: 1}


def _estimator(model: nn.Module, x: Tensor, *, attack: str) -> PyTorchClassifier:
    return PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=count_classes(model, x, attack=attack),
        clip_values=(0.0, 1.0),
        device_type=str(x.device),
    )


def _generate(attack: Any, x: Tensor, y: Tensor) -> Tensor:
    found = attack.generate(x.cpu().numpy(), y.cpu().numpy())
    return torch.from_numpy(found).to(x)


@ATTACKS.register
class ARTPGD(Stepwise):
    """PGD as ART implements it.

    Source: Madry et al. 2018, https://arxiv.org/abs/1706.06083, section 2.1.
    """

    NORMS: ClassVar[frozenset[Norm]] = frozenset(Norm)
    RETURNS_LAST: ClassVar[bool] = True

    name: Literal["art-pgd"] = "art-pgd"
    random_start: bool = True
    """Start at a random point of the ball instead of the image itself."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        attack = ProjectedGradientDescent(
            _estimator(model, x, attack=self.name),
            norm=ORDERS[threat_model.norm],
            eps=float(threat_model.eps),
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

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        attack = AutoProjectedGradientDescent(
            _estimator(model, x, attack=self.name),
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
