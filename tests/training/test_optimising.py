import pytest
import torch
from torch import nn

from harness.training.optimising import learning_rate, make_optimiser, optimiser_tensors, restore_optimiser
from harness.training.recipes.base import Optimiser
from tests.nets import small_convnet

TOTAL = 40


def rates(**fields: object) -> list[float]:
    spec = Optimiser(learning_rate=0.1, **fields)
    return [learning_rate(spec, step, TOTAL) for step in range(TOTAL)]


def torchs_rates(schedule: str) -> list[float]:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    if schedule == "one_cycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=TOTAL + 1)
    else:
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=TOTAL)
    found = []
    for _ in range(TOTAL):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


def test_cosine_is_torchs() -> None:
    assert rates(schedule="cosine") == pytest.approx(torchs_rates("cosine"), abs=1e-9)


def test_one_cycle_is_close_to_torchs() -> None:
    assert rates(schedule="one_cycle") == pytest.approx(torchs_rates("one_cycle"), abs=0.01)


def test_one_cycle_rises_to_the_given_rate_and_ends_near_zero() -> None:
    found = rates(schedule="one_cycle")
    assert found[0] == pytest.approx(0.1 / 25)
    assert max(found) == pytest.approx(0.1, rel=0.01)
    assert found[-1] < 1e-4


def test_constant_is_constant() -> None:
    assert set(rates(schedule="constant")) == {0.1}


def test_training_of_one_step_has_a_rate() -> None:
    assert all(learning_rate(Optimiser(schedule=name), 0, 1) > 0 for name in ("one_cycle", "cosine", "constant"))


@pytest.mark.parametrize(("name", "decay"), [("adamw", 0.05), ("sgd", 5e-4)])
def test_biases_and_norms_do_not_decay(name: str, decay: float) -> None:
    model = small_convnet(3)
    optimiser = make_optimiser(Optimiser(name=name), model)
    decays = {id(weight): group["weight_decay"] for group in optimiser.param_groups for weight in group["params"]}
    assert {decays[id(weight)] for weight in model.parameters() if weight.ndim > 1} == {decay}
    assert {decays[id(weight)] for weight in model.parameters() if weight.ndim == 1} == {0}


def test_frozen_parameters_are_left_out() -> None:
    model = small_convnet(3)
    model[0].requires_grad_(False)
    optimiser = make_optimiser(Optimiser(), model)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(model.parameters())) - 2


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_restored_optimiser_makes_the_same_step(name: str) -> None:
    def prepared() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = small_convnet(3).to(memory_format=torch.channels_last)
        return model, make_optimiser(Optimiser(name=name, learning_rate=0.1), model)

    def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        model(torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(5))).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    one, first = prepared()
    step(one, first)
    other, second = prepared()
    other.load_state_dict(one.state_dict())
    restore_optimiser(second, {key: tensor.clone().contiguous() for key, tensor in optimiser_tensors(first).items()})
    step(one, first)
    step(other, second)
    assert all(torch.equal(weight, same) for weight, same in zip(one.parameters(), other.parameters(), strict=True))
