from typing import ClassVar, Literal

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from harness.attacks import frame
from harness.attacks.base import Attack
from harness.attacks.frame import find_nearest, restart_seed, run_attack, within
from harness.attacks.results import AttackInput
from harness.attacks.torchattacks.stepwise import TINY
from harness.errors import HarnessError
from harness.system.seeds import global_seed
from harness.threat import ThreatModel
from tests.attacks.nets import CLASSES, LinearNet, attack_of, conv_net, images, threat


class Scripted(Attack):
    """Returns what a test tells it to, after showing it to the model."""

    name: Literal["scripted"] = "scripted"
    MINIMUM_NORM: ClassVar[bool] = False

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        for iterate in self.shown(x):
            model(iterate)
        return self.returned(x)

    def shown(self, x: Tensor) -> list[Tensor]:
        return []

    def returned(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def inputs() -> AttackInput:
    net, x = LinearNet(), images(6)
    return AttackInput(net, x, net(x).argmax(1))


def _broken(inputs: AttackInput, eps: float) -> Tensor:
    net = inputs.model
    top = net(inputs.x).topk(2).indices
    direction = (net.head.weight[top[:, 1]] - net.head.weight[top[:, 0]]).detach()
    return (inputs.x + eps * direction.sign().view_as(inputs.x)).clamp(0, 1)


def test_output_outside_the_ball_is_measured_and_projected(inputs: AttackInput) -> None:
    class Far(Scripted):
        def returned(self, x: Tensor) -> Tensor:
            return x + 0.5

    result = run_attack(Far(), inputs, threat_model=threat("0.1"), seed=0)
    assert result.evidence.violation == pytest.approx(0.4, abs=1e-5)
    assert threat("0.1").violation(result.x_adv, inputs.x).max() <= 1e-6
    assert torch.allclose(result.logits, inputs.model(result.x_adv), atol=1e-6)


def test_non_finite_output_falls_back_to_the_original_pixels(inputs: AttackInput) -> None:
    class Broken(Scripted):
        def returned(self, x: Tensor) -> Tensor:
            return x * torch.nan

    result = run_attack(Broken(), inputs, threat_model=threat(), seed=0)
    assert torch.equal(result.x_adv, inputs.x)
    assert not result.is_adversarial.any()
    assert result.evidence.nonfinite_images == result.evidence.returned == len(inputs.x)
    assert result.evidence.violation == 0


@pytest.mark.parametrize("output", [lambda x: x[:, :1], lambda x: x.double(), lambda x: x[:-1], lambda x: None])
def test_output_of_another_shape_or_type_is_refused(inputs: AttackInput, output) -> None:
    class Wrong(Scripted):
        def returned(self, x: Tensor) -> Tensor:
            return output(x)

    with pytest.raises(HarnessError, match=r"attacks\.scripted: expected torch.float32 \(6, 3, 8, 8\)"):
        run_attack(Wrong(), inputs, threat_model=threat(), seed=0)


@pytest.mark.parametrize("x", [images(2) * 255, images(2) - 1, images(2) * torch.nan])
def test_inputs_outside_the_unit_range_are_refused(x: Tensor) -> None:
    with pytest.raises(HarnessError, match=r"expected images in \[0,1\]"):
        AttackInput(LinearNet(), x, torch.zeros(2, dtype=torch.int64))


def test_lost_success_is_found_by_best_of_iterates_and_reported_without(inputs: AttackInput) -> None:
    class Forgetful(Scripted):
        def shown(self, x: Tensor) -> list[Tensor]:
            return [_broken(inputs, 0.2)]

    watched = run_attack(Forgetful(), inputs, threat_model=threat("0.2"), seed=0)
    assert watched.is_adversarial.all()
    assert torch.equal(watched.x_adv, _broken(inputs, 0.2))
    plain = run_attack(Forgetful(), inputs, threat_model=threat("0.2"), seed=0, best_of_iterates=False)
    assert not plain.is_adversarial.any()
    assert plain.evidence.silent_successes == len(inputs.x)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_without_watching_the_result_is_the_librarys_bit_for_bit(norm: str, targeted: bool) -> None:
    net, x, y = conv_net(), images(8), torch.arange(8) % CLASSES
    threat_model = threat("8/255" if norm == "Linf" else "0.5", norm, targeted=targeted)
    attack = attack_of("pgd", steps=5)
    ours = run_attack(attack, AttackInput(net, x, y), threat_model=threat_model, seed=3, best_of_iterates=False)
    with global_seed(restart_seed(3, 0)):
        eps = float(threat_model.eps)
        if norm == "Linf":
            library = torchattacks.PGD(net, eps=eps, alpha=eps / 4, steps=5)
        else:
            library = torchattacks.PGDL2(net, eps=eps, alpha=eps / 4, steps=5, eps_for_division=TINY)
        if targeted:
            library.set_mode_targeted_by_label(quiet=True)
        theirs = library(x, y)
    assert torch.equal(ours.x_adv, theirs)
    assert (ours.evidence.forwards, ours.evidence.backwards) == (8 * 6, 8 * 5)


def test_modes_gradients_inputs_and_random_state_are_left_alone() -> None:
    net = conv_net().train()
    net[1].eval()
    net[4].weight.requires_grad_(False)
    x, y = images(4), torch.arange(4) % CLASSES
    modes = [module.training for module in net.modules()]
    wanted = [parameter.requires_grad for parameter in net.parameters()]
    statistics = net[4].running_mean.clone()
    copy, state = x.clone(), torch.get_rng_state()
    run_attack(attack_of("pgd"), AttackInput(net, x, y), threat_model=threat(), seed=0)
    assert [module.training for module in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == wanted
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(net[4].running_mean, statistics)
    assert torch.equal(x, copy)
    assert torch.equal(torch.get_rng_state(), state)


def test_restarts_go_on_with_examples_without_success_from_other_random_states() -> None:
    seen: list[tuple[int, float]] = []

    class Noting(Scripted):
        def perturb(
            self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator
        ) -> Tensor:
            seen.append((len(x), float(torch.rand(1, generator=generator))))
            model(_broken(inputs, 0.2)[:2] if len(x) == 6 else x)
            return x

    net, x = LinearNet(), images(6)
    inputs = AttackInput(net, x, net(x).argmax(1))
    result = run_attack(Noting(restarts=3), inputs, threat_model=threat("0.2"), seed=0)
    assert [count for count, _ in seen] == [6, 4, 4]
    assert len({draw for _, draw in seen}) == 3
    assert result.is_adversarial.tolist() == [True, True, False, False, False, False]


def test_targeted_attack_succeeds_only_on_its_target(inputs: AttackInput) -> None:
    target = 1 - inputs.y
    result = run_attack(
        attack_of("pgd", steps=20), AttackInput(inputs.model, inputs.x, target), threat_model=threat("0.5", targeted=True), seed=0
    )
    assert torch.equal(result.is_adversarial, inputs.model(result.x_adv).argmax(1) == target)
    assert result.is_adversarial.all()


def test_unsupported_threat_model_is_refused_with_its_reason(inputs: AttackInput) -> None:
    with pytest.raises(HarnessError, match=r"attacks\.fgsm: fgsm has no L2 form, only Linf"):
        run_attack(attack_of("fgsm"), inputs, threat_model=threat("1", "L2"), seed=0)


def test_empty_batch_gives_an_empty_result(inputs: AttackInput) -> None:
    rows = torch.zeros(0, dtype=torch.int64)
    result = run_attack(attack_of("fgsm"), inputs.at(rows), threat_model=threat(), seed=0)
    assert len(result.x_adv) == len(result.logits) == len(result.is_adversarial) == result.evidence.attacked == 0


def test_minimum_norm_search_keeps_the_nearest_iterate_and_is_judged_at_every_budget(inputs: AttackInput) -> None:
    class Search(Scripted):
        MINIMUM_NORM: ClassVar[bool] = True

        def shown(self, x: Tensor) -> list[Tensor]:
            return [_broken(inputs, 0.3), _broken(inputs, 0.2)]

        def returned(self, x: Tensor) -> Tensor:
            return _broken(inputs, 0.25)

    nearest = find_nearest(Search(), inputs, threat_model=threat("1"), seed=0)
    assert torch.allclose(nearest.distance, torch.full((6,), 0.2), atol=1e-5)
    assert within(nearest, inputs, threat_model=threat("0.21")).is_adversarial.all()
    tight = within(nearest, inputs, threat_model=threat("1/255"))
    assert threat("1/255").violation(tight.x_adv, inputs.x).max() <= 1e-6
    assert torch.equal(tight.is_adversarial, inputs.model(tight.x_adv).argmax(1) != inputs.y)


def test_image_that_pgd_breaks_is_judged_once() -> None:
    """It is returned as it was when it broke, so that the frame, which knows that image, need not look at another one."""
    reference, form, judged = conv_net(), conv_net(), []
    x = images(24)
    y = reference(x).argmax(dim=1)
    reference.register_forward_pre_hook(lambda _, inputs: judged.append(len(inputs[0])))
    result = run_attack(attack_of("pgd", steps=8), AttackInput(reference, x, y, form), threat_model=threat("4/255"), seed=0)
    assert 0 < result.is_adversarial.sum() < len(x)
    assert sum(judged) == len(x)


def test_scripts_find_the_input_of_an_attack_under_its_former_name() -> None:
    assert frame.Victim is AttackInput
