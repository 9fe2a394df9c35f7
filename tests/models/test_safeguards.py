from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.models.safeguards import OnCopies, WithoutGradient, safeguarded
from tests.attacks.nets import conv_net, images


class Calling(nn.Module):
    def __init__(self, call: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.network, self.call = conv_net(), call

    def forward(self, x: Tensor) -> Any:
        return self.call(self.network, x)


@pytest.fixture
def x() -> Tensor:
    return images(3, low=0.0, high=1.0)


def _raising(net: nn.Module, x: Tensor) -> Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        raise NotImplementedError("no kernel for autograd\nat all")
    return net(x)


@pytest.mark.parametrize(
    "call",
    [lambda net, x: net(x), lambda net, x: net(x) * 0, lambda net, x: net(x.clone().mul_(0.5)), lambda net, x: net(x).softmax(1)],
)
def test_honest_network_is_called_directly(x: Tensor, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
    net = Calling(call).eval()
    assert safeguarded(net, x) is net
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_copies_keep_images_and_gradients(x: Tensor) -> None:
    net, before = Calling(lambda net, x: net(x.mul_(0.5))).eval(), x.clone()
    guard = safeguarded(net, x)
    assert isinstance(guard, OnCopies)
    leaf = x.clone().requires_grad_()
    logits = guard(leaf)
    assert torch.equal(logits, net.network(x * 0.5))
    assert torch.equal(leaf, before)
    assert torch.equal(x, before)
    wanted = before.clone().requires_grad_()
    found = torch.autograd.grad(logits.sum(), leaf)[0]
    assert torch.allclose(found, torch.autograd.grad(net.network(wanted * 0.5).sum(), wanted)[0])


@pytest.mark.parametrize("call", [_raising, lambda net, x: net(x).detach(), lambda net, x: net((255 * x).round().long() / 255)])
def test_network_without_gradients_gives_logits_outside_of_autograd(
    x: Tensor, call: Callable[[nn.Module, Tensor], Tensor]
) -> None:
    guard = safeguarded(Calling(call).eval(), x)
    assert isinstance(guard, WithoutGradient)
    assert guard.obstacle == ("NotImplementedError: no kernel for autograd" if call is _raising else "its logits require none")
    logits = guard(x.clone().requires_grad_())
    assert not logits.requires_grad
    assert torch.equal(logits, call(conv_net(), x).detach())


def test_network_may_need_both(x: Tensor) -> None:
    before = x.clone()
    guard = safeguarded(Calling(lambda net, x: net(x.mul_(0.5)).detach()).eval(), x)
    assert isinstance(guard, WithoutGradient)
    assert isinstance(guard.network, OnCopies)
    guard(x)
    assert torch.equal(x, before)


def test_error_of_the_network_itself_is_no_lack_of_gradients(x: Tensor) -> None:
    with pytest.raises(ZeroDivisionError):
        safeguarded(Calling(lambda net, x: 1 / 0).eval(), x)
