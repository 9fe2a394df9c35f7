"""Standard training, without attacks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.models.network import Network
from harness.system.lazy import torch
from harness.training.recipes.base import RECIPES, Objective, Recipe, TrainingBatch


@RECIPES.register
class Standard(Recipe):
    """Minimises the cross-entropy of the training images; the epoch of the best validation accuracy is kept."""

    name: Literal["standard"] = "standard"
    mixup: float = Field(default=0.0, ge=0)
    """Blend the images of a batch in pairs, and their losses, by a weight from Beta(mixup, mixup); 0 does not blend.
    Source: Zhang et al. 2018, https://arxiv.org/abs/1710.09412, equation 1."""

    def loss(self, network: Network, batch: TrainingBatch) -> Objective:
        """See `Recipe.loss`; the training accuracy of blended images is counted on the first of each pair."""
        if not self.mixup:
            logits = network(batch.x)
            return Objective(self.cross_entropy(logits, batch.y), logits)
        weight = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
        others = torch.randperm(len(batch.y), device=batch.y.device)
        logits = network(weight * batch.x + (1 - weight) * batch.x[others])
        first, second = (self.cross_entropy(logits, y) for y in (batch.y, batch.y[others]))
        return Objective(weight * first + (1 - weight) * second, logits)
