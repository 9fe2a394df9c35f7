"""Small networks for tests, reachable by a factory name."""

from torch import nn

ON_DIGITS = """
dataset: {name: digits, resolution: 16}
architecture: {name: factory, factory: "tests.nets:small_convnet", mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
"""
"""What suites of the tests have in common: small images, and a network that learns them in seconds."""


def small_convnet(num_classes: int) -> nn.Module:
    """Two strided convolutions with batch norm and a linear head; takes RGB images of any size from 8 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )
