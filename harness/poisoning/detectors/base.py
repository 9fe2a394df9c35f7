"""The base of the detector plug-ins: a score for every example, and which examples a detector calls poisoned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.images import ImageSplit
from harness.registry import Plugin, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Detection:
    """The result of a detector on the examples of a split."""

    scores: NDArray[np.float64]
    """Score of every example (N,), higher is more suspicious."""
    suspicious: NDArray[np.bool_]
    """The examples that the detector's own rule calls poisoned (N,)."""
    threshold: float | None
    """The smallest score of a suspicious example, or None if the rule has no common threshold for all classes."""


class Detector(Plugin, ABC):
    """Base of the detector plug-ins. No detector gets the manifest."""

    RUN_TIME: ClassVar[bool] = False
    """Whether it examines the images that come in at run time; the others examine the training split."""

    @abstractmethod
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
        """Returns the detection on every example of a split.

        Args:
            model: The network trained on the split under suspicion, on `device`; left unchanged, without hooks.
            split: The examples; a training split with its labels, or images that come in at run time.
            reference: Clean examples of the defender: the validation split.
            device: Where the network is.
            batch_size: Images of one forward pass.
            seed: Seed of every random choice.

        Raises:
            ModelError: if the detector needs features and the network has no head whose input could be read.
        """


DETECTORS: Registry[Detector] = Registry(
    "detectors",
    {
        "activation_clustering": "harness.poisoning.detectors.activation_clustering:ActivationClustering",
        "spectral_signatures": "harness.poisoning.detectors.spectral_signatures:SpectralSignatures",
        "strip": "harness.poisoning.detectors.strip:Strip",
    },
)
