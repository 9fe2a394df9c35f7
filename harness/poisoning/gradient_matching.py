"""Witches' Brew: images of the target class whose training gradients make the network misclassify a certain test image."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from harness.poisoning import art
from harness.poisoning.base import Crafted, DrawnExamples
from harness.poisoning.families import TargetedPoison
from harness.spec import Eps
from harness.system.lazy import torch


class GradientMatching(TargetedPoison):
    """Perturbs images of the target class so that training on them lowers the loss of the targets with the wanted label.

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
    """Trials; the best one is kept. 8 in the paper."""
    batch_size: int = Field(default=128, ge=1)
    """Images of one step."""

    @property
    def largest_crafted_change(self) -> float:
        """See `Poison.largest_crafted_change`."""
        return float(self.eps)

    def craft(self, drawn: DrawnExamples) -> Crafted:
        """See `Poison.craft`."""
        images = art.gradient_matched(
            drawn.model,
            drawn.images(),
            drawn.labels,
            x_target=drawn.target_images(),
            y_wanted=np.full(self.n_targets, self.target_index(drawn.data.class_names), dtype=np.int64),
            classes=drawn.classes,
            eps=float(self.eps),
            steps=self.steps,
            restarts=self.restarts,
            batch_size=self.batch_size,
        )
        return Crafted(drawn.labels, torch.from_numpy(images))
