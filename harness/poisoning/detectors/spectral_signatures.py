"""Spectral signatures: scores examples by the first singular vector of their class's features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.images import ImageSplit
from harness.poisoning import art
from harness.poisoning.detectors.base import Detection, Detector

if TYPE_CHECKING:
    import torch
    from torch import nn


class SpectralSignatures(Detector):
    """Scores examples by the component of their centred penultimate features along their class's first singular vector.

    The rule makes the same share of every class suspicious, poisoned or not. Through ART.

    Source: Tran et al. 2018, https://arxiv.org/abs/1811.00636, algorithm 1.
    """

    name: Literal["spectral_signatures"] = "spectral_signatures"
    """Name of the detector."""
    expected_rate: float = Field(default=0.05, gt=0, le=1)
    """Share of a class that the defender expects to be poisoned."""
    multiplier: float = Field(default=1.5, gt=0)
    """The suspicious share of a class, in multiples of `expected_rate`; 1.5 in the paper."""

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
        return self.detect_in_features(features, split.labels)

    def detect_in_features(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> Detection:
        """Returns the detection on features (N, D) with their labels (N,)."""
        _, numbers = np.unique(labels, return_inverse=True)
        centred = features.copy()
        for number in range(numbers.max() + 1):
            centred[numbers == number] -= features[numbers == number].mean(axis=0)
        scores, suspicious = art.spectral_signatures(
            centred, numbers, expected_rate=self.expected_rate, multiplier=self.multiplier
        )
        return Detection(scores.astype(np.float64), suspicious, threshold=None)
