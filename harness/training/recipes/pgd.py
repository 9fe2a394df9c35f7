"""Adversarial training with projected gradient descent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.models.network import Network
from harness.system.lazy import torch
from harness.threat import ThreatModel
from harness.training.recipes.adversarial import REACH, AdversarialRecipe
from harness.training.recipes.base import RECIPES
from harness.training.recipes.inner import maximise, random_start, summed_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


@RECIPES.register
class PGDTraining(AdversarialRecipe):
    """Minimises the loss of images for which PGD has maximised it; the epoch of the best robust accuracy is kept.

    Source: Madry et al. 2018, https://arxiv.org/abs/1706.06083, equation 2.1.
    """

    name: Literal["pgd"] = "pgd"
    steps: int = Field(default=7, ge=1, le=1000)
    """Steps of the attack; alpha is 2.5 eps / steps by default."""
    random_start: bool = True
    """Start the attack at a random point of the ball, not at the image."""
    clean_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the images that are not attacked; a fraction of an image in a batch is rounded up or down at random."""

    def perturb(self, network: Network, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `AdversarialRecipe.perturb`."""
        clean = self._clean_count(len(x), generator) if self.clean_share else 0
        if clean == len(x):
            return x
        attacked = x[clean:]
        x_adv = maximise(
            network,
            attacked,
            y[clean:],
            threat_model=threat_model,
            alpha=self.step_size(threat_model, REACH / self.steps),
            steps=self.steps,
            loss=summed_cross_entropy,
            start=random_start(attacked, threat_model, generator) if self.random_start else attacked,
        )
        return torch.cat([x[:clean], x_adv])

    def _clean_count(self, count: int, generator: torch.Generator) -> int:
        """Returns how many of `count` images stay clean: their share on average, however small the micro-batches are."""
        chance = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)
        return int(self.clean_share * count + float(chance))
