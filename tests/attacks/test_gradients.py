import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.attacks.gradients import LARGEST_MARGIN, BoundedMargins, UnitGradients, bounded_margins
from tests.attacks.nets import conv_net, images


class Sloped(nn.Module):
    """One logit, linear in the pixels, so that its gradient is known."""

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.slopes = slopes

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.slopes).flatten(1).sum(dim=1, keepdim=True)


def _gradient(net: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(net(x).sum(), x)[0]


@pytest.mark.parametrize("size", [1e-42, 1e-37, 1e-20, 1.0, 1e20, 3e38])
def test_gradients_of_any_size_keep_their_direction_and_their_digits(size: float) -> None:
    slopes = torch.tensor([1.0, -0.5, 0.25]).view(1, 3, 1, 1) * size
    gradient = _gradient(UnitGradients(Sloped(slopes)), images(2)[..., :1, :1])
    largest = gradient.abs().amax(dim=(1, 2, 3))
    assert ((largest >= 0.5) & (largest < 1)).all()
    assert torch.equal(gradient / gradient[:, :1], (slopes / slopes[:, :1]).expand(2, -1, -1, -1))


def test_gradient_of_zero_stays_zero_and_one_that_is_none_stays_none() -> None:
    slopes = torch.stack([torch.zeros(3, 2, 2), torch.full((3, 2, 2), torch.nan)])
    gradient = _gradient(UnitGradients(Sloped(slopes)), images(2)[..., :2, :2])
    assert (gradient[0] == 0).all()
    assert gradient[1].isnan().all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_lie_in_memory_as_the_images_do(layout: torch.memory_format) -> None:
    for net in (conv_net().to(memory_format=torch.channels_last), conv_net()):
        assert _gradient(UnitGradients(net), images(4).contiguous(memory_format=layout)).is_contiguous(memory_format=layout)


def test_logits_are_the_networks_own() -> None:
    net, x = conv_net(), images(4)
    assert torch.equal(UnitGradients(net)(x), net(x))


def test_margins_up_to_the_bound_reach_the_loss_as_they_are() -> None:
    logits = torch.tensor([[LARGEST_MARGIN, 0.0, -3.0], [1.0, 2.0, -500.0], [-7.0, -7.0, -7.0]])
    assert torch.equal(bounded_margins(logits), logits)


def test_larger_margins_are_bounded_in_the_same_order() -> None:
    logits = torch.tensor([[60.0, -20.0, 10.0, 11.0], [1.0, 2.0, 3.0, 4.0]])
    bounded = bounded_margins(logits)
    assert torch.equal(bounded[1], logits[1])
    assert torch.equal(bounded.argsort(dim=1), logits.argsort(dim=1))
    assert float(bounded[0, 0] - bounded[0, 3]) == pytest.approx(LARGEST_MARGIN)


def test_logits_without_any_gradient_stay_without() -> None:
    """What no longer has a gradient in float32 is for the checks to report."""
    logits = torch.tensor([[120.0, 0.0, -5.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(cross_entropy(bounded_margins(logits), torch.tensor([0])), logits)
    assert (gradient[:, 1:] == 0).all()


@pytest.mark.parametrize("odd", [torch.inf, -torch.inf, torch.nan])
def test_logits_that_are_not_finite_are_handed_on(odd: float) -> None:
    logits = torch.tensor([[odd, 2.0, 1.0]])
    assert torch.equal(bounded_margins(logits).nan_to_num(7.0), logits.nan_to_num(7.0))


def test_single_logit_is_handed_on() -> None:
    assert torch.equal(BoundedMargins(Sloped(torch.ones(1, 3, 1, 1)))(torch.ones(2, 3, 1, 1)), torch.full((2, 1), 3.0))
