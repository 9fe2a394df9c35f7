"""A backdoor whose poisoned images keep their true label."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.poisoning import art
from harness.poisoning.base import Crafted, DrawnExamples
from harness.poisoning.families import TriggerPoison
from harness.poisoning.stamp import Stamp
from harness.spec import Eps
from harness.system.lazy import torch


class CleanLabelBackdoor(TriggerPoison):
    """Perturbs images of the target class by PGD so that a network misclassifies them, then applies the trigger.

    Labels stay true. The perturbed images show little of their class, so the model learns the trigger. Through ART.

    Source: Turner et al. 2019, https://arxiv.org/abs/1912.02771, section 4.2.
    """

    NEEDS_MODEL: ClassVar[bool] = True
    CRAFTS: ClassVar[bool] = True

    name: Literal["clean_label_backdoor"] = "clean_label_backdoor"
    """Name of the poison."""
    eps: Eps = Field(default=Fraction(16, 255), gt=0, le=1)
    """Budget (Linf) of the perturbation under the trigger."""
    steps: int = Field(default=40, ge=1)
    """Steps of PGD."""
    alpha: Eps | None = Field(default=None, gt=0, le=1)
    """Step size; 2.5 eps / steps by default."""

    @property
    def largest_crafted_change(self) -> float:
        """See `Poison.largest_crafted_change`."""
        return float(self.eps)

    def training_stamp(self, resolution: int) -> Stamp:
        """See `Poison.training_stamp`."""
        return self.trigger_stamp(resolution)

    def eligible(self, class_names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Training examples of the target class."""
        return labels == self.target_index(class_names)

    def craft(self, drawn: DrawnExamples) -> Crafted:
        """See `Poison.craft`."""
        images = art.clean_label_pgd(
            drawn.model,
            drawn.images(),
            drawn.labels,
            classes=drawn.classes,
            eps=float(self.eps),
            alpha=float(self.alpha or self.eps * Fraction(5, 2 * self.steps)),
            steps=self.steps,
        )
        return Crafted(drawn.labels, torch.from_numpy(images))
