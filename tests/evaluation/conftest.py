import pytest
import torch

from harness.datasets.tensors import TensorSplit
from tests.attacks.nets import conv_net, images


@pytest.fixture
def net() -> torch.nn.Module:
    return conv_net()


@pytest.fixture
def split(net: torch.nn.Module) -> TensorSplit:
    """40 images, three of which the net gets wrong."""
    x = images(40, low=0.0, high=1.0)
    with torch.no_grad():
        y = net(x).argmax(dim=1)
    y[[3, 17, 30]] = (y[[3, 17, 30]] + 1) % 4
    return TensorSplit(x, y)
