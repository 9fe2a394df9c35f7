"""What the adversarial recipes share: the budget with its warm-up, the step size, and the attack that validates."""

from __future__ import annotations

from abc import abstractmethod
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from harness.models.network import Network
from harness.spec import LATER, Eps
from harness.system.lazy import torch
from harness.threat import Norm, ThreatModel, expect_pixel_budget
from harness.training.recipes.base import Objective, Recipe, TrainingBatch

if TYPE_CHECKING:
    from torch import Tensor


REACH = 2.5
"""Length of an attack's path in multiples of eps: Madry et al. 2018, https://arxiv.org/abs/1706.06083, section 4."""


class AdversarialRecipe(Recipe):
    """Base of the recipes that train on adversarials of their own."""

    VERSION: ClassVar[int] = 2
    """2: the probe that chooses the epoch has the same start points in every epoch."""

    norm: Literal[Norm.LINF, Norm.L2] = Norm.LINF
    """The norm of the budget."""
    eps: Eps = Field(default=Fraction(8, 255))
    """The budget in pixel units of [0,1], "8/255"."""
    alpha: Eps | None = None
    """The attack's step size in pixel units; relative to eps by default."""
    warmup_epochs: int = Field(default=0, ge=0)
    """Epochs in which the budget grows linearly up to eps."""
    validation_steps: int = Field(default=10, ge=1)
    """Steps of the PGD at eps that each epoch is validated with."""
    distil: float = Field(default=0.0, ge=0, le=1, json_schema_extra=LATER)
    """Share of the label that the teacher's prediction for the clean image replaces. The teacher is the network before this
    training, in eval mode; a suite names it as `warm_start`. After Goldblum et al. 2020, https://arxiv.org/abs/1905.09747,
    whose teacher is robust itself and whose label term uses clean images."""

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
        """The threat model that the network is trained against."""
        return ThreatModel(norm=self.norm, eps=self.eps)

    def threat_model_at(self, epoch: int) -> ThreatModel:
        """Returns the threat model of an epoch, counted from 1: the budget grows until the first epoch after the warm-up."""
        return self.threat_model.with_eps(self.eps * min(Fraction(1), Fraction(epoch, self.warmup_epochs + 1)))

    def step_size(self, threat_model: ThreatModel, reach: float) -> float:
        """Returns alpha at a budget: `alpha` scaled with the budget, or `reach` times the budget if `alpha` is None."""
        return float(threat_model.eps) * (reach if self.alpha is None else float(self.alpha / self.eps))

    @abstractmethod
    def perturb(self, network: Network, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        """Returns the adversarial images that the network is trained on.

        Args:
            network: The network in eval mode, its parameters frozen.
            x: Images (N, 3, H, W) in [0,1].
            y: Labels (N,).
            threat_model: The budget of this epoch.
            generator: Source of every random choice, on the device of `x`.
        """

    def loss(self, network: Network, batch: TrainingBatch) -> Objective:
        """Returns the cross-entropy of the attacked images; see `Recipe.loss`.

        A recipe with a loss of its own uses `misfit` for the part with the labels, so that `distil` has an effect.
        """
        logits = network(batch.x_adv)
        return Objective(self.misfit(logits, batch), logits)

    def misfit(self, logits: Tensor, batch: TrainingBatch) -> Tensor:
        """Returns the mean cross-entropy with the labels, and in the share `distil` with the teacher's predictions."""
        labelled = self.cross_entropy(logits, batch.y)
        if batch.taught is None:
            return labelled
        return (1 - self.distil) * labelled + self.distil * torch.nn.functional.cross_entropy(logits, batch.taught)
