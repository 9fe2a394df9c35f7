"""Activation clustering: splits the features of each class into two clusters, and suspects the smaller one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.images import ImageSplit
from harness.poisoning import art
from harness.poisoning.detectors.base import Detection, Detector
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    import torch
    from torch import nn


class ActivationClustering(Detector):
    """Splits the penultimate features of each class into two clusters by ART, and suspects a small enough cluster.

    An example's score is its distance to the centre of its class's larger cluster minus that to the smaller one's. In a
    class whose features are all equal, every score is 0 and no example is suspicious.

    Source: Chen et al. 2018, https://arxiv.org/abs/1811.03728, algorithm 1 and section 5.2 (relative size).
    """

    name: Literal["activation_clustering"] = "activation_clustering"
    """Name of the detector."""
    size_threshold: float = Field(default=0.35, gt=0, le=1)
    """The smaller cluster is suspicious if it has less than this share of its class; with 1 it always is."""
    components: int = Field(default=10, ge=1)
    """Principal components for the clustering; fewer if a class has fewer examples."""

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
        from harness.poisoning.features import penultimate_features

        features = penultimate_features(model, split, device=device, batch_size=batch_size)
        return self.detect_in_features(features, split.labels, seed=seed)

    def detect_in_features(self, features: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int) -> Detection:
        """Returns the detection on features (N, D) with their labels (N,)."""
        scores, suspicious = np.zeros(len(labels)), np.zeros(len(labels), dtype=bool)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            of_class = features[members]
            if (of_class == of_class[0]).all():
                continue
            components = min(self.components, *of_class.shape)
            numbers, reduced = art.activation_clusters(of_class, components=components, seed=seed_of(seed, self.name))
            in_smaller = numbers == np.bincount(numbers, minlength=2).argmin()
            scores[members] = _margins(reduced, in_smaller)
            suspicious[members] = in_smaller & (in_smaller.mean() < self.size_threshold)
        return Detection(scores, suspicious, threshold=None)


def _margins(reduced: NDArray[np.float32], in_smaller: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns how much closer each row (n, D) is to the centre of the smaller of two clusters than to the other."""
    to_smaller, to_larger = (
        np.linalg.norm(reduced - reduced[cluster].mean(axis=0), axis=1) for cluster in (in_smaller, ~in_smaller)
    )
    return (to_larger - to_smaller).astype(np.float64)
