"""Random noise at the full budget: the control that every attack must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.passes import Passes
from harness.records.evidence import Access
from harness.system.lazy import torch
from harness.threat import Norm, ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn


@ATTACKS.register
class RandomNoise(Attack):
    """Noise that does not look at the model.

    Linf: uniform in [-eps, eps] for every pixel and channel. L2 and L1: a Gaussian direction of length eps.
    """

    NORMS: ClassVar[frozenset[Norm]] = frozenset(Norm)
    BY_EXAMPLE: ClassVar[frozenset[Norm]] = frozenset(Norm)
    ACCESS: ClassVar[Access] = "none"
    RETURNS_LAST: ClassVar[bool] = True

    name: Literal["random_noise"] = "random_noise"

    def passes(self, classes: int) -> Passes:
        """See `Attack.passes`."""
        return Passes(0)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `Attack.perturb`."""
        eps = float(threat_model.eps)
        if threat_model.norm is Norm.LINF:
            noise = (torch.rand(x.shape, generator=generator, device=x.device) * 2 - 1) * eps
        else:
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            flat = noise.flatten(1)  # of a single row PyTorch's norm in L1 adds up in another order than of several
            length = torch.linalg.vector_norm(flat, dim=1) if threat_model.norm is Norm.L2 else flat.abs().sum(dim=1)
            noise *= (eps / length).view(-1, 1, 1, 1)
        return (x + noise).clamp(0, 1)
