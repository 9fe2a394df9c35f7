import pytest
import torch
from torch import Tensor, nn

from harness.evaluation.batches import forward_and_backward


class Deaf(nn.Module):
    """Logits that do not depend on the image: of a parameter, or of nothing."""

    def __init__(self, *, trainable: bool) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.ones(4), requires_grad=trainable)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), 4)


class Stepped(nn.Module):
    """Whole numbers, as a quantised network gives: no gradient passes them."""

    def forward(self, x: Tensor) -> Tensor:
        return (255 * x).long().flatten(1)[:, :4]


@pytest.mark.parametrize("network", [Deaf(trainable=True), Deaf(trainable=False), Stepped()])
def test_network_without_a_differentiable_path_is_passed_forward_only(network: nn.Module) -> None:
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    forward_and_backward(network, x)
    assert x.grad is None


def test_differentiable_network_is_passed_back_too(net: nn.Module) -> None:
    passed: list[Tensor] = []
    x = torch.rand(2, 3, 12, 12, requires_grad=True)
    x.register_hook(passed.append)
    forward_and_backward(net, x)
    assert [gradient.shape for gradient in passed] == [x.shape]
