"""Adversarial training that trades clean accuracy for robustness: TRADES."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.models.network import Network
from harness.system.lazy import torch
from harness.threat import ThreatModel
from harness.training.recipes.adversarial import REACH, AdversarialRecipe
from harness.training.recipes.base import RECIPES, Objective, TrainingBatch
from harness.training.recipes.inner import maximise, random_start

if TYPE_CHECKING:
    from torch import Tensor


def summed_divergence(logits_adv: Tensor, logits: Tensor) -> Tensor:
    """Returns KL(p(x) || p(x_adv)), summed over examples, from both logits (N, K)."""
    return torch.nn.functional.kl_div(
        torch.nn.functional.log_softmax(logits_adv, dim=1),
        torch.nn.functional.log_softmax(logits, dim=1),
        reduction="sum",
        log_target=True,
    )


@RECIPES.register
class Trades(AdversarialRecipe):
    """Minimises the clean cross-entropy plus beta times the divergence between clean and attacked predictions.

    The attack maximises that divergence; it starts uniformly in the ball, where the authors' code starts in a narrow
    normal distribution around the image.

    Source: Zhang et al. 2019, https://arxiv.org/abs/1901.08573, equation 5 and algorithm 1.
    """

    name: Literal["trades"] = "trades"
    beta: float = Field(default=6.0, gt=0)
    """Weight of the divergence (1/lambda in the paper): a larger one gives a more robust and less accurate network."""
    steps: int = Field(default=10, ge=1, le=1000)
    """Steps of the attack; alpha is 2.5 eps / steps by default."""

    def perturb(self, network: Network, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """See `AdversarialRecipe.perturb`."""
        with torch.no_grad():
            logits = network(x)
        return maximise(
            network,
            x,
            logits,
            threat_model=threat_model,
            alpha=self.step_size(threat_model, REACH / self.steps),
            steps=self.steps,
            loss=summed_divergence,
            start=random_start(x, threat_model, generator),
        )

    def loss(self, network: Network, batch: TrainingBatch) -> Objective:
        """See `Recipe.loss`."""
        logits, logits_adv = network(batch.x), network(batch.x_adv)
        divergence = summed_divergence(logits_adv, logits) / len(batch.y)
        return Objective(self.misfit(logits, batch) + self.beta * divergence, logits_adv)
