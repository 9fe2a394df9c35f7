"""Real digits of 8 x 8 pixels, and tiny networks that learn them in seconds."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from harness.datasets.base import DATASETS
from harness.images import ImageData, ImageSplit
from harness.poisoning.base import POISONS
from harness.poisoning.frame import poison_data
from harness.poisoning.poisoned import PoisonedData
from harness.poisoning.splits import images_at

RATE = 0.05
TARGET = 3

Train = Callable[[ImageSplit], nn.Module]


def predicted(model: nn.Module, split: ImageSplit) -> NDArray[np.int64]:
    images = torch.from_numpy(images_at(split, np.arange(len(split))))
    with torch.no_grad():
        return model(images).argmax(dim=1).numpy()


def train_net(split: ImageSplit, *, epochs: int = 12) -> nn.Module:
    """A small network on digits: two convolutions, 48 penultimate features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 48),
            nn.ReLU(),
            nn.Linear(48, 10),
        )
        x, y = torch.from_numpy(images_at(split, np.arange(len(split)))), torch.from_numpy(split.labels)
        optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
                optimiser.step()
    return net.eval()


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return DATASETS.parse({"name": "digits", "resolution": 8}).load()


@pytest.fixture(scope="session")
def clean_net(digits: ImageData) -> nn.Module:
    return train_net(digits.splits["train"])


@pytest.fixture(scope="session")
def backdoored(digits: ImageData) -> PoisonedData:
    return poison_data(POISONS.parse({"name": "backdoor", "target_class": TARGET}), digits, RATE, seed=0)


@pytest.fixture(scope="session")
def backdoored_net(backdoored: PoisonedData) -> nn.Module:
    return train_net(backdoored.data.splits["train"])
