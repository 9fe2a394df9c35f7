import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from harness.models.folding import BiasOrder, fold_batchnorm, folded
from tests.attacks.nets import conv_net, images

ORDERS: tuple[BiasOrder, ...] = ("by_scale", "by_factors")


def pair(*, bias: bool, affine: bool) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Returns a convolution and a batch norm with random weights and statistics, in eval mode, frozen."""
    generator = torch.Generator().manual_seed(0)
    convolution, norm = nn.Conv2d(3, 16, 3, bias=bias), nn.BatchNorm2d(16, affine=affine).eval()
    for tensor in (*convolution.parameters(), *norm.parameters(), norm.running_mean):
        tensor.data.normal_(generator=generator)
    norm.running_var.uniform_(0.1, 2, generator=generator)
    return convolution.requires_grad_(False), norm.requires_grad_(False)


@pytest.fixture(params=[(False, True), (True, True), (False, False)], ids=["no bias", "bias", "no gamma and beta"])
def layers(request: pytest.FixtureRequest) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    bias, affine = request.param
    return pair(bias=bias, affine=affine)


@pytest.mark.parametrize("order", ORDERS)
def test_folded_weights_compute_what_the_two_layers_compute(layers: tuple[nn.Conv2d, nn.BatchNorm2d], order: BiasOrder) -> None:
    convolution, norm = layers
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    weight, bias = folded(convolution, norm, bias_order=order)
    assert torch.allclose(nn.functional.conv2d(x, weight, bias), norm(convolution(x)), atol=1e-5)


def test_by_factors_is_bit_for_bit_what_torch_folds(layers: tuple[nn.Conv2d, nn.BatchNorm2d]) -> None:
    convolution, norm = layers
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    expected = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)
    assert all(map(torch.equal, folded(convolution, norm, bias_order="by_factors"), expected))


def test_orders_differ_by_rounding_of_the_bias_alone() -> None:
    one, other = (folded(*pair(bias=True, affine=True), bias_order=order) for order in ORDERS)
    assert torch.equal(one.weight, other.weight)
    assert torch.allclose(one.bias, other.bias, rtol=1e-5)


def test_folded_weights_have_the_number_format_of_the_convolution() -> None:
    convolution, norm = pair(bias=False, affine=True)
    assert [tensor.dtype for tensor in folded(convolution.half(), norm, bias_order="by_scale")] == [torch.float16] * 2


def test_number_of_folded_layers_is_returned() -> None:
    x: Tensor = images(6, low=0.0, high=1.0)
    assert fold_batchnorm(conv_net().requires_grad_(False), x) == 2
