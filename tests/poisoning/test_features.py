import numpy as np
import pytest
import timm
import torch
from torch import nn

from harness.errors import ModelError
from harness.images import ImageData
from harness.models.classifier import Classifier
from harness.poisoning.features import FeatureProbe, find_head, penultimate_features
from harness.poisoning.splits import Selection, images_at


@pytest.fixture
def some_digits(digits: ImageData) -> Selection:
    return Selection(digits.splits["test"], np.arange(10))


class HeadDefinedFirst(nn.Module):
    """A network whose last layer is not the last one that was defined."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(7, 10)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def test_features_are_what_the_last_layer_that_runs_reads(some_digits: Selection):
    net = HeadDefinedFirst().eval()
    features = penultimate_features(net, some_digits, device="cpu", batch_size=4)
    with torch.no_grad():
        expected = net.body(torch.from_numpy(images_at(some_digits, np.arange(10))))
    assert np.allclose(features, expected.numpy(), atol=1e-6)
    assert features.dtype == np.float32


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnetv2_50"])
def test_features_of_timm_networks_are_its_pre_logits(name: str):
    backbone = timm.create_model(name, num_classes=10).eval()
    net = Classifier(backbone, mean=(0.5,) * 3, std=(0.25,) * 3, class_names="abcdefghij")
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    probe = FeatureProbe(net, x)
    seen: list[torch.Tensor] = []
    probe.features.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        logits = probe.eval()(x)
        expected = backbone.forward_head(backbone.forward_features((x - 0.5) / 0.25), pre_logits=True)
        assert torch.allclose(seen[0], expected.flatten(1), atol=1e-5)
        assert torch.equal(logits, net(x))


def test_modes_and_hooks_are_left_as_they_were(some_digits: Selection):
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Dropout(0.5), nn.Linear(192, 4)).train()
    net[1].eval()
    before = net[1].running_mean.clone()
    penultimate_features(net, some_digits, device="cpu", batch_size=3)
    assert [module.training for module in net.modules()] == [True, True, False, True, True]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert torch.equal(net[1].running_mean, before)


def test_hooks_are_removed_when_the_network_fails(some_digits: Selection):
    class Failing(HeadDefinedFirst):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            super().forward(x)
            raise ValueError("broken")

    net = Failing()
    with pytest.raises(ValueError, match="broken"):
        penultimate_features(net, some_digits, device="cpu", batch_size=3)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_network_without_a_linear_layer_is_named():
    net = nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ModelError, match="Sequential: expected a network that ends in a linear layer"):
        find_head(net, torch.zeros(1, 3, 8, 8))
