"""What a detector plug-in writes: a suspicion for every example, and which ones it calls poisoned."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.images import ImageSplit
from harness.registry import Plugin, Registry


@dataclass(frozen=True)
class Detection:
    """What a detector says about the examples of a split."""

    scores: NDArray[np.float64]
    """Suspicion of every example (N,), higher is more suspicious."""
    suspicious: NDArray[np.bool_]
    """The examples that the detector's own rule calls poisoned (N,)."""
    threshold: float | None
    """The score from which an example is suspicious, or None where the rule goes class by class."""


class Detector(Plugin, ABC):
    """Base of the detector plug-ins. None of them sees a manifest."""

    RUN_TIME: ClassVar[bool] = False
    """Whether it judges the images that come in at run time; the others judge the training split."""

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
        """Judges every example of a split.

        Args:
            model: The network trained on the split under suspicion, on `device`; left as it was found, without hooks.
            split: The examples; a training split with its labels, or images that come in at run time.
            reference: Clean examples that the defender holds: the validation split.
            device: Where the network is.
            batch_size: Images of one forward.
            seed: Seed of every random choice.

        Raises:
            ModelError: if the detector reads features and the network has no head to read them from.
        """


DETECTORS: Registry[Detector] = Registry(
    "detectors",
    {
        "activation_clustering": "harness.poisoning.detectors.activation_clustering:ActivationClustering",
        "spectral_signatures": "harness.poisoning.detectors.spectral_signatures:SpectralSignatures",
        "strip": "harness.poisoning.detectors.strip:Strip",
    },
)
