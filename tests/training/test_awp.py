import pytest
import torch
from torch import Tensor, nn

from harness.training.awp import adversarial_weights
from tests.nets import small_convnet
from tests.training.cases import copied

X = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 3
GAMMA = 0.01


def loss_of(model: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(model(X), Y)


def ascent_on(model: nn.Module):
    return lambda weights: list(torch.autograd.grad(loss_of(model), weights))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return small_convnet(3)


def test_each_weight_moves_by_gamma_of_its_norm_and_raises_the_loss(model: nn.Module) -> None:
    before, loss = copied(dict(model.named_parameters())), loss_of(model).item()
    with adversarial_weights(model, ascent_on(model), GAMMA):
        for name, weight in model.named_parameters():
            expected = GAMMA * before[name].norm() if weight.ndim > 1 else torch.tensor(0.0)
            torch.testing.assert_close((weight - before[name]).norm(), expected, rtol=1e-3, atol=1e-7)
        assert loss_of(model).item() > loss


def test_weights_come_back_bit_equal_and_the_gradient_stays(model: nn.Module) -> None:
    before = copied(dict(model.named_parameters()))
    with adversarial_weights(model, ascent_on(model), GAMMA):
        loss_of(model).backward()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert all(weight.grad is not None for weight in model.parameters())


def test_weights_come_back_when_the_block_fails(model: nn.Module) -> None:
    before = copied(dict(model.named_parameters()))
    with pytest.raises(ValueError, match="inside"), adversarial_weights(model, ascent_on(model), GAMMA):
        raise ValueError("inside")
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_search_for_the_perturbation_leaves_the_statistics(model: nn.Module) -> None:
    before = copied(dict(model.named_buffers()))
    with adversarial_weights(model.train(), ascent_on(model), GAMMA):
        assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
