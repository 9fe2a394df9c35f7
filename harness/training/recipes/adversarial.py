"""What the adversarial recipes share: the budget with its warm-up, the step size, and the attack that validates."""

from abc import abstractmethod
from fractions import Fraction
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.models.network import Network
from harness.spec import LATER, Eps
from harness.threat import Norm, ThreatModel, expect_pixel_budget
from harness.training.recipes.base import Batch, Objective, Recipe

REACH = 2.5
"""Length of an attack's path in multiples of eps: Madry et al. 2018, https://arxiv.org/abs/1706.06083, section 4."""


class AdversarialRecipe(Recipe):
    """Base of the recipes that train on adversarials of their own."""

    VERSION: ClassVar[int] = 2
    """2: the probe that chooses the epoch starts at the same places in every epoch."""

    norm: Literal[Norm.LINF, Norm.L2] = Norm.LINF
    """The norm of the budget."""
    eps: Eps = Field(default=Fraction(8, 255))
    """The budget in pixel units of [0,1], "8/255"."""
    alpha: Eps | None = None
    """The attack's step size in pixel units; relative to eps where it is left out."""
    warmup_epochs: int = Field(default=0, ge=0)
    """Epochs in which the budget grows linearly up to eps."""
    validation_steps: int = Field(default=10, ge=1)
    """Steps of the PGD at eps that each epoch is validated with."""
    distil: float = Field(default=0.0, ge=0, le=1, json_schema_extra=LATER)
    """Share of the label that is replaced by what the teacher predicts for the image before the attack. The teacher is
    the network as it is before training, in eval mode; a suite names it as `warm_start`. After Goldblum et al. 2020,
    https://arxiv.org/abs/1905.09747, whose teacher is robust itself and whose label term is on unattacked images."""

    @model_validator(mode="after")
    def _budget_fits_the_norm(self) -> Self:
        if self.eps == 0:
            raise ValueError('eps: expected a budget > 0, got 0; for no budget at all there is the recipe "standard"')
        expect_pixel_budget(self.norm, self.eps, where="eps")
        if self.alpha is not None and self.alpha == 0:
            raise ValueError("alpha: expected a step size > 0, got 0")
        return self

    @property
    def threat_model(self) -> ThreatModel:
        """What the trained model is to withstand."""
        return ThreatModel(norm=self.norm, eps=self.eps)

    def threat_model_at(self, epoch: int) -> ThreatModel:
        """Returns the threat model of an epoch, counted from 1: the budget grows up to the first one after warm-up."""
        return self.threat_model.with_eps(self.eps * min(Fraction(1), Fraction(epoch, self.warmup_epochs + 1)))

    def step_size(self, threat_model: ThreatModel, reach: float) -> float:
        """Returns alpha at a budget: `alpha` in proportion to the budget, else `reach` times the budget."""
        return float(threat_model.eps) * (reach if self.alpha is None else float(self.alpha / self.eps))

    @abstractmethod
    def perturb(self, network: Network, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """Returns the images that the network is to be trained on.

        Args:
            network: The network in eval mode, its parameters frozen.
            x: Images (N, 3, H, W) in [0,1].
            y: Labels (N,).
            threat_model: The budget of this epoch.
            generator: Source of every random choice, on the device of `x`.
        """

    def loss(self, network: Network, batch: Batch) -> Objective:
        """Returns the cross-entropy of the attacked images; see `Recipe.loss`.

        A recipe with a loss of its own takes the labels' part of it from `misfit`, which is where `distil` counts.
        """
        logits = network(batch.x_adv)
        return Objective(self.misfit(logits, batch), logits)

    def misfit(self, logits: Tensor, batch: Batch) -> Tensor:
        """Returns the mean cross-entropy with the labels, and with the teacher's predictions in the share `distil`."""
        labelled = self.cross_entropy(logits, batch.y)
        if batch.taught is None:
            return labelled
        return (1 - self.distil) * labelled + self.distil * cross_entropy(logits, batch.taught)
