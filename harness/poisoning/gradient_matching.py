"""Witches' Brew: images of the target class whose gradient trains the network to misclassify a certain test image."""

from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from harness.poisoning import art
from harness.poisoning.base import Crafted, Victims
from harness.poisoning.families import TargetedPoison
from harness.spec import Eps


class GradientMatching(TargetedPoison):
    """Perturbs images of the target class so that training on them lowers the loss of the targets, wrongly labelled.

    Labels stay true. Through ART.

    Source: Geiping et al. 2021, https://arxiv.org/abs/2009.02276, algorithm 1.
    """

    NEEDS_MODEL: ClassVar[bool] = True
    CRAFTS: ClassVar[bool] = True

    name: Literal["gradient_matching"] = "gradient_matching"
    """Name of the poison."""
    eps: Eps = Field(default=Fraction(16, 255), gt=0, le=1)
    """Budget (Linf) of the perturbation."""
    steps: int = Field(default=250, ge=10)
    """Optimisation steps of a trial."""
    restarts: int = Field(default=1, ge=1)
    """Trials, of which the best is kept; 8 in the paper."""
    batch_size: int = Field(default=128, ge=1)
    """Images of one step."""

    @property
    def largest_crafted_change(self) -> float:
        """See `Poison.largest_crafted_change`."""
        return float(self.eps)

    def craft(self, victims: Victims) -> Crafted:
        """See `Poison.craft`."""
        images = art.gradient_matched(
            victims.model,
            victims.images(),
            victims.labels,
            x_target=victims.target_images(),
            y_wanted=np.full(self.n_targets, self.target_index(victims.data.class_names), dtype=np.int64),
            classes=victims.classes,
            eps=float(self.eps),
            steps=self.steps,
            restarts=self.restarts,
            batch_size=self.batch_size,
        )
        return Crafted(victims.labels, torch.from_numpy(images))
