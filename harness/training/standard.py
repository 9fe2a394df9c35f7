"""Training as usual."""

from typing import Literal

from harness.training.base import RECIPES, Batch, Network, Objective, Recipe


@RECIPES.register
class Standard(Recipe):
    """Minimises the cross-entropy of the training images; the epoch of the best validation accuracy is kept."""

    name: Literal["standard"] = "standard"

    def loss(self, network: Network, batch: Batch) -> Objective:
        """See `Recipe.loss`."""
        logits = network(batch.x)
        return Objective(self.cross_entropy(logits, batch.y), logits)
