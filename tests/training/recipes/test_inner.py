import pytest
import torch
from torch import Tensor, nn

from harness.threat import Norm, ThreatModel
from harness.training.recipes.inner import input_gradient, maximise, random_start, steepest, summed_cross_entropy

NORMS = [Norm.LINF, Norm.L2]
X = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
Y = torch.tensor([0, 1, 0, 1, 0, 1])


def linear_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(75, 2)).requires_grad_(False)


def attack(threat_model: ThreatModel, *, steps: int, start: Tensor = X) -> Tensor:
    alpha = 2.5 * float(threat_model.eps) / steps
    return maximise(
        linear_model(), X, Y, threat_model=threat_model, alpha=alpha, steps=steps, loss=summed_cross_entropy, start=start
    )


@pytest.mark.parametrize("norm", NORMS)
def test_maximum_over_the_ball_of_a_linear_model_is_reached(norm: Norm) -> None:
    threat_model = ThreatModel(norm=norm, eps=0.1)
    weight = linear_model()[1].weight
    direction = (weight[1 - Y] - weight[Y]).view_as(X)
    expected = X + 0.1 * steepest(direction, norm)
    torch.testing.assert_close(attack(threat_model, steps=1), expected)
    torch.testing.assert_close(attack(threat_model, steps=10), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_attack_stays_in_the_ball_and_raises_the_loss(norm: Norm) -> None:
    threat_model = ThreatModel(norm=norm, eps=0.3)
    start = random_start(X, threat_model, torch.Generator().manual_seed(1))
    x_adv = attack(threat_model, steps=5, start=start)
    assert threat_model.violation(x_adv, X).max() < 1e-6
    assert summed_cross_entropy(linear_model()(x_adv), Y) > summed_cross_entropy(linear_model()(start), Y)
    assert not x_adv.requires_grad


@pytest.mark.parametrize("norm", NORMS)
def test_random_start_fills_the_ball(norm: Norm) -> None:
    threat_model = ThreatModel(norm=norm, eps=0.2)
    grey = torch.full((4000, 3, 1, 1), 0.5)
    start = random_start(grey, threat_model, torch.Generator().manual_seed(0))
    distance = threat_model.distance(start, grey)
    assert distance.max() <= 0.2 + 1e-6
    inner = (distance < 0.1).float().mean().item()
    assert inner == pytest.approx(0.5**3, abs=0.02)  # the share of a ball's volume within half its radius
    assert start.mean().item() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("norm", NORMS)
def test_random_start_repeats_with_the_generators_state(norm: Norm) -> None:
    starts = [random_start(X, ThreatModel(norm=norm, eps=0.1), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@pytest.mark.parametrize("norm", NORMS)
def test_direction_has_size_one_and_is_zero_without_a_gradient(norm: Norm) -> None:
    gradient = torch.randn(3, 3, 4, 4)
    gradient[1] = 0
    lengths = ThreatModel(norm=norm, eps=1).distance(steepest(gradient, norm), torch.zeros_like(gradient))
    torch.testing.assert_close(lengths, torch.tensor([1.0, 0.0, 1.0]))


def test_gradient_of_one_image_does_not_depend_on_the_others() -> None:
    model = linear_model()
    together = input_gradient(model, X, Y, summed_cross_entropy)
    alone = input_gradient(model, X[2:3], Y[2:3], summed_cross_entropy)
    torch.testing.assert_close(together[2:3], alone)


def test_gradient_is_found_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        assert input_gradient(linear_model(), X, Y, summed_cross_entropy).abs().sum() > 0
