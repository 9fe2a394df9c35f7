"""Attacks that take gradient steps of a fixed size: fgsm, bim, pgd, mifgsm."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.passes import Passes
from harness.attacks.stepwise import Stepwise
from harness.attacks.torchattacks.library import run_library, torchattacks
from harness.records.evidence import Access
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


TINY = float(np.finfo(np.float32).tiny)
"""Keeps a division by a gradient of zero finite."""


@ATTACKS.register
class FGSM(Attack):
    """One step of the size of the budget along the sign of the gradient.

    Source: Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572, section 4.
    """

    VERSION: ClassVar[int] = 3
    ACCESS: ClassVar[Access] = "single_step"
    TARGETED: ClassVar[bool] = True
    RETURNS_LAST: ClassVar[bool] = True
    ANY_LAYOUT: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})

    name: Literal["fgsm"] = "fgsm"

    def step_size(self, threat_model: ThreatModel) -> float:
        """Returns the budget."""
        return float(threat_model.eps)

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(1, 1)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.gradients import followable_cross_entropy

        attack = torchattacks.FGSM(followable_cross_entropy(model, threat_model), eps=float(threat_model.eps))
        return run_library(attack, x, y, targeted=threat_model.targeted)


@ATTACKS.register
class PGD(Stepwise):
    """Projected gradient ascent of the cross-entropy.

    Source: Madry et al. 2018, https://arxiv.org/abs/1706.06083, section 2.1.
    """

    VERSION: ClassVar[int] = 4
    RETURNS_LAST: ClassVar[bool] = True
    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF, Norm.L2})
    ANY_LAYOUT: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF, Norm.L2})

    name: Literal["pgd"] = "pgd"
    random_start: bool = True
    """Start at a random point of the ball instead of the image itself."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.gradients import followable_cross_entropy
        from harness.attacks.torchattacks.inplace import InPlacePGD

        shared = {"eps": float(threat_model.eps), "alpha": self.step_size(threat_model)}
        shared |= {"steps": self.steps, "random_start": self.random_start}
        if threat_model.norm is Norm.LINF:
            attack = InPlacePGD(model, **shared)
        else:
            attack = torchattacks.PGDL2(followable_cross_entropy(model, threat_model), **shared, eps_for_division=TINY)
        return run_library(attack, x, y, targeted=threat_model.targeted)


@ATTACKS.register
class BIM(Stepwise):
    """The basic iterative method: repeated FGSM steps from the image itself.

    Source: Kurakin et al. 2017, https://arxiv.org/abs/1607.02533, section 2.2.
    """

    VERSION: ClassVar[int] = 3
    RETURNS_LAST: ClassVar[bool] = True
    ANY_LAYOUT: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})

    name: Literal["bim"] = "bim"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.gradients import followable_cross_entropy

        network, alpha = followable_cross_entropy(model, threat_model), self.step_size(threat_model)
        attack = torchattacks.BIM(network, eps=float(threat_model.eps), alpha=alpha, steps=self.steps)
        return run_library(attack, x, y, targeted=threat_model.targeted)


@ATTACKS.register
class MIFGSM(Stepwise):
    """Iterative FGSM with momentum on the gradient.

    Source: Dong et al. 2018, https://arxiv.org/abs/1710.06081, algorithm 1.
    """

    VERSION: ClassVar[int] = 3
    RETURNS_LAST: ClassVar[bool] = True
    ANY_LAYOUT: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset({Norm.LINF})

    name: Literal["mifgsm"] = "mifgsm"
    decay: float = Field(default=1.0, ge=0)
    """Decay factor of the momentum."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        from harness.attacks.gradients import followable_cross_entropy

        network, alpha = followable_cross_entropy(model, threat_model), self.step_size(threat_model)
        attack = torchattacks.MIFGSM(network, eps=float(threat_model.eps), alpha=alpha, steps=self.steps, decay=self.decay)
        return run_library(attack, x, y, targeted=threat_model.targeted)
