"""STRIP: a backdoored network stays confident of a triggered image when other images are added to it."""

from __future__ import annotations

from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.images import ImageSplit
from harness.poisoning.detectors.base import Detection, Detector
from harness.poisoning.splits import images_at
from harness.system.lazy import torch
from harness.system.modes import evaluating
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    from torch import Tensor, nn


POOL_SIZE = 100
"""Clean images held in memory, from which overlays are drawn."""

SMALLEST_SPREAD = 1e-9
"""Standard deviation of the normal distribution if all scores are equal, as it must be above 0."""


class Strip(Detector):
    """Scores an image by the mean entropy of predictions when clean images are added to it: low entropy is suspicious.

    The sum of the two images is clipped at 1, as the paper's authors do; their mean would halve the strength of a trigger.
    The detector works at run time and needs no labels. A normal distribution is fitted to the scores of the reference
    images; the threshold is its quantile with `false_alarm_rate` above it. Own code, as ART computes the entropy over the
    blends of each class, not over the classes, and from logits.

    Source: Gao et al. 2019, https://arxiv.org/abs/1902.06531, section 4, equations 2 to 4; for the sum of images:
    https://github.com/garrisongys/STRIP.
    """

    VERSION: ClassVar[int] = 2

    RUN_TIME: ClassVar[bool] = True

    name: Literal["strip"] = "strip"
    """Name of the detector."""
    overlays: int = Field(default=20, ge=1)
    """Clean images that are added to each image, one at a time; 100 in the paper."""
    opacity: float = Field(default=1.0, gt=0, le=1)
    """Weight of the clean image; that of the examined image is 1."""
    false_alarm_rate: float = Field(default=0.01, gt=0, lt=1)
    """Share of clean images that shall lie above the threshold."""

    def detect(
        self,
        model: nn.Module,
        split: ImageSplit,
        *,
        reference: ImageSplit,
        device: torch.device | str,
        batch_size: int,
        seed: int,
    ) -> Detection:
        """See `Detector.detect`."""
        score = partial(self.scores, model, reference=reference, device=device, batch_size=batch_size)
        scores = score(split, seed=seed_of(seed, self.name, "split"))
        clean_scores = score(reference, seed=seed_of(seed, self.name, "reference"))
        fit = NormalDist(float(clean_scores.mean()), max(float(clean_scores.std()), SMALLEST_SPREAD))
        threshold = fit.inv_cdf(1 - self.false_alarm_rate)
        return Detection(scores, scores >= threshold, threshold)

    def scores(
        self,
        model: nn.Module,
        split: ImageSplit,
        *,
        reference: ImageSplit,
        device: torch.device | str,
        batch_size: int,
        seed: int,
    ) -> NDArray[np.float64]:
        """Returns minus the mean entropy, in bits, of each image under its overlays, (N,)."""
        from harness.poisoning.features import batches

        rng = np.random.default_rng(seed)
        pool = torch.from_numpy(images_at(reference, rng.permutation(len(reference))[:POOL_SIZE])).to(device)
        rows: list[Tensor] = []
        with evaluating(model), torch.no_grad():
            for x in batches(split, batch_size):
                picks = torch.from_numpy(rng.integers(0, len(pool), (len(x), self.overlays)).T)
                blends = ((x.to(device) + self.opacity * pool[pick.to(device)]).clamp(max=1) for pick in picks)
                rows.append(torch.stack([_entropy(model(blend)) for blend in blends]).mean(dim=0))
        return -torch.cat(rows).cpu().numpy()


def _entropy(logits: Tensor) -> Tensor:
    """Returns the Shannon entropy in bits of the predicted distribution, (N, K) -> (N,)."""
    log_probabilities = logits.double().log_softmax(dim=1)
    probabilities = log_probabilities.exp()
    # A logit of -inf has probability 0, and 0 times -inf is NaN.
    terms = probabilities * log_probabilities.masked_fill(probabilities == 0, 0.0)
    return -terms.sum(dim=1) / np.log(2)
