"""Photographs that scikit-learn ships, as images of any size."""

from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional

Scenes = Callable[[int], Tensor]


@pytest.fixture(scope="session")
def scenes() -> Scenes:
    """Returns a function from a side length to four photographs (4, 3, side, side), float32 in [0,1]."""
    wide = torch.stack([torch.from_numpy(image.copy()) for image in load_sample_images().images])
    wide = wide.permute(0, 3, 1, 2).float() / 255
    halves = torch.cat(wide.split(320, dim=3))

    def of_side(side: int) -> Tensor:
        return functional.interpolate(halves, size=(side, side), mode="bilinear", antialias=True).clamp(0, 1)

    return of_side
