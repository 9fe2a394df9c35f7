"""Batches of few sizes: what is filled up, and that nobody sees the filling."""

import pytest
import torch
from torch import Tensor, nn

from harness.datasets.tensors import TensorSplit
from harness.evaluation import sweep as protocol
from harness.evaluation.settings import SweepSettings
from harness.models.layout import AS_GIVEN, Inference
from harness.models.padding import FewSizes, eighths, filled_up, halvings, in_few_sizes, keeps_images_apart
from harness.threat import ThreatModel
from tests.attacks.nets import conv_net, images
from tests.attacks.test_contract import _small


class Sizes(nn.Module):
    """Notes the sizes of its batches."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return self.network(x)


def test_sizes_are_the_largest_its_half_and_its_quarter() -> None:
    assert halvings(196) == (49, 98, 196)
    assert halvings(3) == (1, 3)
    assert halvings(1) == (1,)


@pytest.mark.parametrize(
    ("largest", "wanted"),
    [(196, (1, 3, 6, 12, 25, 49, 74, 98, 123, 147, 172, 196)), (16, (1, 2, 4, 6, 8, 10, 12, 14, 16)), (3, (1, 2, 3)), (1, (1,))],
)
def test_sizes_are_the_eighths_of_the_largest_and_the_halves_of_the_first(largest: int, wanted: tuple[int, ...]) -> None:
    assert eighths(largest) == wanted


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_keep_their_place_and_layout_and_the_first_is_repeated_behind_them(layout: torch.memory_format) -> None:
    x = torch.rand(3, 3, 4, 4).contiguous(memory_format=layout)
    filled = filled_up(x, (2, 5, 9))
    assert torch.equal(filled[:3], x)
    assert torch.equal(filled[3:], x[:1].expand(2, -1, -1, -1))
    assert filled.is_contiguous(memory_format=layout)
    assert filled_up(x, (3,)) is x
    assert filled_up(x, (2,)) is x


def test_logits_and_gradients_are_those_of_the_network_whatever_the_size() -> None:
    network = conv_net().eval()
    noted = Sizes(network)
    few = FewSizes(noted, (1, 2, 4, 8))
    for count in (1, 3, 5, 8, 11):
        x = torch.rand(count, 3, 8, 8, requires_grad=True)
        wanted, found = network(x), few(x)
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(*(torch.autograd.grad(logits.square().sum(), x)[0] for logits in (found, wanted)))
    assert noted.seen == [1, 4, 8, 8, 11]


def test_no_images_give_no_logits() -> None:
    assert FewSizes(nn.Flatten(), (4,))(torch.rand(0, 3, 2, 2)).shape == (0, 12)


def test_cpus_get_the_network_as_it_is() -> None:
    network = conv_net()
    assert in_few_sizes(network, torch.rand(2, 3, 8, 8), 8) is network


class Whole(nn.Module):
    """Looks at the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4] - x.flatten(1)[:, :4].mean(dim=0)


def test_network_that_looks_at_the_whole_batch_does_not_keep_images_apart() -> None:
    probe = images(2, low=0.0, high=1.0)
    assert keeps_images_apart(conv_net().eval(), probe)
    assert not keeps_images_apart(Whole(), probe)


@pytest.mark.parametrize("inference", [Inference(), AS_GIVEN])
def test_sweep_in_few_sizes_finds_and_counts_what_the_bare_network_does(
    inference: Inference, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, threats = conv_net().eval(), [ThreatModel(eps="4/255"), ThreatModel(eps="24/255")]
    x = images(23, low=0.0, high=1.0)
    split = TensorSplit(x, network(x).argmax(dim=1))
    settings = SweepSettings(_small("pgd"), tuple(threats), inference=inference)
    bare = protocol.sweep(network, split, settings, batch_size=10)
    monkeypatch.setattr(protocol, "in_few_sizes", lambda network, _, largest: FewSizes(network, eighths(largest)).eval())
    few = protocol.sweep(network, split, settings, batch_size=10)
    assert any(condition.is_adversarial.any() for condition in bare.conditions)
    for one, other in zip(bare.conditions, few.conditions, strict=True):
        assert (one.is_adversarial == other.is_adversarial).all()
        assert (one.forwards, one.backwards) == (other.forwards, other.backwards)
