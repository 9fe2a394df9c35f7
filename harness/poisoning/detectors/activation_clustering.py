"""Activation clustering: the features of each class fall into two clusters, and the odd one is poisoned."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from harness.images import ImageSplit
from harness.poisoning import art
from harness.poisoning.detectors.base import Detection, Detector
from harness.poisoning.features import penultimate_features
from harness.seeds import seed_of


class ActivationClustering(Detector):
    """Clusters the penultimate features of each class in two, and suspects one of the two. Through ART.

    An example's score is how much closer it lies to the centre of its class's smaller cluster than to the other
    centre. A class with too few or identical features to cluster gets the score 0 and no suspicion.

    Source: Chen et al. 2018, https://arxiv.org/abs/1811.03728, algorithm 1.
    """

    name: Literal["activation_clustering"] = "activation_clustering"
    """Name of the detector."""
    analysis: Literal["smaller", "relative-size", "silhouette-scores", "distance"] = "relative-size"
    """Which cluster ART suspects: always the smaller one, or only one that is small, or far, enough."""
    components: int = Field(default=10, ge=1)
    """Principal components to cluster in; fewer where a class has fewer examples."""

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
        features = penultimate_features(model, split, device=device, batch_size=batch_size)
        return self.judge(features, split.labels, seed=seed)

    def judge(self, features: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int) -> Detection:
        """Judges features (N, D) with their labels (N,)."""
        scores, suspicious = np.zeros(len(labels)), np.zeros(len(labels), dtype=bool)
        classes = [
            members for label in np.unique(labels) if _can_be_clustered(features[members := np.flatnonzero(labels == label)])
        ]
        if not classes:
            return Detection(scores, suspicious, threshold=None)
        kept = np.concatenate(classes)
        clusters = art.activation_clusters(
            features[kept],
            np.repeat(np.arange(len(classes)), [len(members) for members in classes]),
            analysis=self.analysis,
            components=min(self.components, features.shape[1], *(len(members) for members in classes)),
            seed=seed_of(seed, self.name),
        )
        suspicious[kept] = clusters.suspicious
        for members, numbers, reduced in zip(classes, clusters.numbers, clusters.reduced, strict=True):
            scores[members] = _margins(reduced, numbers)
        return Detection(scores, suspicious, threshold=None)


def _can_be_clustered(features: NDArray[np.float32]) -> bool:
    """Tells whether there are two different rows."""
    return bool((features != features[0]).any())


def _margins(reduced: NDArray[np.float32], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns how much closer each row (n, D) is to the centre of the smaller of two clusters than to the other."""
    smaller = int(np.bincount(numbers, minlength=2).argmin())
    distances = [np.linalg.norm(reduced - reduced[numbers == cluster].mean(axis=0), axis=1) for cluster in (smaller, 1 - smaller)]
    return (distances[1] - distances[0]).astype(np.float64)
