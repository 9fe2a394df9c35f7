"""A network as the harness uses it: it takes images in [0,1], normalises them itself, and returns logits."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """A backbone with its normalisation in front, so that budgets are always in pixel units.

    Args:
        backbone: Any module that maps normalised images (N, 3, H, W) to logits (N, K).
        mean: Per-channel mean that is subtracted.
        std: Per-channel standard deviation that is divided by.
        class_names: The K class names, in the order of the logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, *, mean: Sequence[float], std: Sequence[float], class_names: Sequence[str]) -> None:
        """See the class."""
        super().__init__()
        self.backbone = backbone
        self.class_names = tuple(class_names)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @property
    def num_classes(self) -> int:
        """The number of classes K."""
        return len(self.class_names)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for float images (N, 3, H, W) in [0,1]."""
        return cast(Tensor, self.backbone((x - self.mean) / self.std))
