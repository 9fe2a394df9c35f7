"""Poison Frogs: images of the target class with the features of a certain test image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.errors import SuiteError
from harness.poisoning import art
from harness.poisoning.base import Crafted, DrawnExamples
from harness.poisoning.families import TargetedPoison
from harness.system.lazy import torch


class FeatureCollision(TargetedPoison):
    """Perturbs images of the target class until they have a target's features and still look like themselves.

    Labels stay true; the poisoned images are divided evenly among several targets. There is no hard budget: `similarity`
    penalises the distance to the original, and the manifest holds each image's largest change. Through ART.

    Source: Shafahi et al. 2018, https://arxiv.org/abs/1804.00792, algorithm 1.
    """

    NEEDS_MODEL: ClassVar[bool] = True
    CRAFTS: ClassVar[bool] = True

    name: Literal["feature_collision"] = "feature_collision"
    """Name of the poison."""
    learning_rate: float = Field(default=0.03, gt=0)
    """Size of the first step; halved when the objective rises."""
    similarity: float = Field(default=32.0, gt=0)
    """Weight of the distance to the original, scaled by ART with (features / pixel values) squared."""
    steps: int = Field(default=120, ge=1)
    """Largest number of steps for an image."""
    watermark: float = Field(default=0.0, ge=0, lt=1)
    """Opacity with which the target is blended into the poisoned image; 0.3 in the paper's end-to-end attack."""

    @property
    def largest_crafted_change(self) -> float:
        """See `Poison.largest_crafted_change`."""
        return 1.0

    def check_rate(self, class_names: Sequence[str], labels: NDArray[np.int64], rate: float) -> None:
        """See `Poison.check_rate`; also checks that every target gets a poisoned image of its own."""
        if (count := round(rate * len(labels))) < self.n_targets:
            raise SuiteError(
                f"{self.where}.rates: too few examples for the rate: expected one for each of "
                f"{self.n_targets} targets, got {count}"
            )

    def craft(self, drawn: DrawnExamples) -> Crafted:
        """See `Poison.craft`."""
        images = drawn.images()
        for number, x_target in enumerate(drawn.target_images()):
            share = slice(number, None, self.n_targets)
            images[share] = art.feature_collided(
                drawn.model,
                images[share],
                x_target[None],
                classes=drawn.classes,
                learning_rate=self.learning_rate,
                similarity=self.similarity,
                steps=self.steps,
                watermark=self.watermark,
            )
        return Crafted(drawn.labels, torch.from_numpy(images))
