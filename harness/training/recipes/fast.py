"""Adversarial training with one gradient step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.models.network import Network
from harness.threat import ThreatModel
from harness.training.recipes.adversarial import AdversarialRecipe
from harness.training.recipes.base import RECIPES
from harness.training.recipes.inner import maximise, random_start, summed_cross_entropy

if TYPE_CHECKING:
    import torch
    from torch import Tensor


REACH = 1.25
"""Step size in multiples of eps: Wong et al. 2020, section 5.1; from 2 eps on, the network overfits to FGSM at once."""


@RECIPES.register
class Fast(AdversarialRecipe):
    """Minimises the loss of images that FGSM from a random start has perturbed: one gradient an update.

    It may overfit to FGSM from one epoch to the next, so that any other attack succeeds. The PGD of the validation detects
    that: the column `catastrophic_overfitting` of the history becomes 1, and an earlier epoch is kept.

    Source: Wong et al. 2020, https://arxiv.org/abs/2001.03994, algorithm 3.
    """

    name: Literal["fast"] = "fast"

    def perturb(self, network: Network, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `AdversarialRecipe.perturb`."""
        return maximise(
            network,
            x,
            y,
            threat_model=threat_model,
            alpha=self.step_size(threat_model, REACH),
            steps=1,
            loss=summed_cross_entropy,
            start=random_start(x, threat_model, generator),
        )
