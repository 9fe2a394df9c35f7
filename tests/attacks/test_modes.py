"""A plug-in that asks for training mode must not reach the network, whose BatchNorm would learn from adversarial images."""

from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.datasets.tensors import TensorSplit
from harness.errors import HarnessError
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.models.layout import AS_GIVEN, Inference
from harness.threat import ThreatModel
from tests.attacks.nets import conv_net, images, threat


class Steps(Attack):
    """Sign steps on whatever `switched` makes of the network."""

    name: Literal["steps"] = "steps"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        model, eps, x_adv = self.switched(model), float(threat_model.eps), x.clone()
        for _ in range(4):
            x_adv.requires_grad_()
            gradient = torch.autograd.grad(nn.functional.cross_entropy(model(x_adv), y), x_adv)[0]
            x_adv = (x + (x_adv.detach() + gradient.sign() * eps / 2 - x).clamp(-eps, eps)).clamp(0, 1)
        return x_adv

    def switched(self, model: nn.Module) -> nn.Module:
        return model


class Training(Steps):
    def switched(self, model: nn.Module) -> nn.Module:
        return model.train()


class Thorough(Steps):
    def switched(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            module.training = True
        return model.requires_grad_(True)


class Reaching(Steps):
    """Gets hold of the network behind the watcher."""

    def switched(self, model: nn.Module) -> nn.Module:
        model.model.train()(images(4))
        return model


@pytest.fixture
def inputs() -> AttackInput:
    net, x = conv_net(), images(8, low=0.0, high=1.0)
    return AttackInput(net, x, net(x).argmax(dim=1))


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("attack", [Training(), Thorough()], ids=["train", "modules"])
@pytest.mark.parametrize("best_of_iterates", [True, False])
def test_asking_for_training_mode_changes_nothing(inputs: AttackInput, attack: Attack, *, best_of_iterates: bool) -> None:
    before, logits = _state(inputs.model), inputs.model(inputs.x)
    expected, found = (
        run_attack(it, inputs, threat_model=threat(), seed=0, best_of_iterates=best_of_iterates) for it in (Steps(), attack)
    )
    assert torch.equal(found.x_adv, expected.x_adv)
    assert torch.equal(found.is_adversarial, inputs.model(found.x_adv).argmax(dim=1) != inputs.y)
    assert all(torch.equal(value, before[name]) for name, value in inputs.model.state_dict().items())
    assert torch.equal(inputs.model(inputs.x), logits)


@pytest.mark.parametrize("inference", [AS_GIVEN, Inference()], ids=["as given", "faster form"])
def test_sweep_gives_clean_and_robust_accuracy_of_the_network_in_eval_mode(inference: Inference) -> None:
    net, x = conv_net(), images(40, low=0.0, high=1.0)
    split, before = TensorSplit(x, net(x).argmax(dim=1)), _state(net)
    budgets = (threat("2/255"), threat("8/255"))
    expected, found = (
        sweep(net, split, SweepSettings(it, budgets, inference=inference), batch_size=16) for it in (Steps(), Training())
    )
    assert all(
        np.array_equal(a.is_adversarial, b.is_adversarial) for a, b in zip(found.conditions, expected.conditions, strict=True)
    )
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_reaching_past_the_watcher_is_refused_and_undone(inputs: AttackInput) -> None:
    before, modes = _state(inputs.model), [module.training for module in inputs.model.modules()]
    with pytest.raises(HarnessError, match=r"attacks\.steps: expected a network left in eval mode, got \d+ modules"):
        run_attack(Reaching(), inputs, threat_model=threat(), seed=0)
    assert all(torch.equal(value, before[name]) for name, value in inputs.model.state_dict().items())
    assert [module.training for module in inputs.model.modules()] == modes


@pytest.mark.parametrize("inference", [AS_GIVEN, Inference()], ids=["as given", "faster form"])
def test_reaching_past_the_watcher_in_a_sweep_is_refused_and_undone(inference: Inference) -> None:
    net, x = conv_net().train(), images(8, low=0.0, high=1.0)
    split, before = TensorSplit(x, conv_net()(x).argmax(dim=1)), _state(net)
    with pytest.raises(HarnessError, match="expected a network left in eval mode"):
        sweep(net, split, SweepSettings(Reaching(), (threat(),), inference=inference))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())


class Meddling(Steps):
    """Thaws the network behind the watcher and moves its statistics; notes what it finds of that at the next batch."""

    FOUND: ClassVar[list[tuple[bool, float]]] = []

    def switched(self, model: nn.Module) -> nn.Module:
        buffer = next(model.model.buffers())
        self.FOUND.append((any(parameter.requires_grad for parameter in model.model.parameters()), float(buffer.sum())))
        model.model.requires_grad_(True)
        buffer.add_(1)
        return model


@pytest.mark.parametrize("inference", [AS_GIVEN, Inference(fold_batchnorm=False)], ids=["as given", "copy"])
def test_batch_of_a_sweep_finds_nothing_of_what_the_one_before_did_to_the_network(inference: Inference) -> None:
    net, x = conv_net(), images(12, low=0.0, high=1.0)
    Meddling.FOUND.clear()
    sweep(net, TensorSplit(x, net(x).argmax(dim=1)), SweepSettings(Meddling(), (threat(),), inference=inference), batch_size=4)
    assert len(Meddling.FOUND) >= 3
    assert len(set(Meddling.FOUND)) == 1
    assert not Meddling.FOUND[0][0]
