from typing import ClassVar, Literal

import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from harness.attacks.art import best_l1_point
from harness.attacks.base import ATTACKS, Attack
from harness.errors import HarnessError
from harness.evaluation.attack_test import attack_test
from harness.evaluation.planted import PLANTS, SATURATED
from harness.records.evidence import Access
from harness.threat import Norm, ThreatModel
from tests.attacks.nets import attack_of

QUICK = {"steps": 20, "fab_steps": 10, "queries": 400, "search_steps": 2}


class Own(Attack):
    """A user's plug-in: sign steps, with a fault that each test plants."""

    ACCESS: ClassVar[Access] = "iterative"
    name: Literal["own"] = "own"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        eps, x_adv = float(threat_model.eps), x.clone()
        for _ in range(8):
            x_adv.requires_grad_()
            loss = nn.functional.cross_entropy(model(x_adv), y, reduction="sum")
            step = self.direction(torch.autograd.grad(loss, x_adv)[0].sign()) * eps / 4
            x_adv = (x + (x_adv.detach() + step - x).clamp(-eps, eps)).clamp(0, 1)
        model(x_adv)
        return self.finish(x_adv, x)

    def direction(self, sign: Tensor) -> Tensor:
        return sign

    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x_adv


@pytest.mark.parametrize("name", [name for name in ATTACKS.names() if name != "random_noise"])
def test_every_shipped_attack_passes(name: str) -> None:
    fields = ATTACKS.get(name).model_fields
    report = attack_test(attack_of(name, **{field: value for field, value in QUICK.items() if field in fields}))
    report.check()
    assert report.passed
    assert set(report.found.values()) == {1.0}


def test_sound_plug_in_passes() -> None:
    assert attack_test(Own()).found == {"Linf hyperplane": 1.0, "Linf needles": 1.0}


class Backwards(Own):
    def direction(self, sign: Tensor) -> Tensor:
        return -sign


class Forgetful(Own):
    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x.clone()


class Escaping(Own):
    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x + 2 * (x_adv - x)


class Gambling(Own):
    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x_adv.clone() - torch.rand(x.shape, generator=torch.Generator().manual_seed(next(COUNTER))) * 1e-6


class Misshapen(Own):
    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x_adv[:, :1]


class Blind(Own):
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        return x.clone()


class Switching(Own):
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        return super().perturb(model.train(), x, y, threat_model=threat_model, generator=generator)


class BareART(Attack):
    """ART's PGD in L1 as it is: it moves the value with the largest gradient, saturated or not (ART 1.20.1)."""

    NORMS: ClassVar[frozenset[Norm]] = frozenset({Norm.L1})
    ACCESS: ClassVar[Access] = "iterative"
    name: Literal["own"] = "own"
    steps: int = 20

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        shape = tuple(x.shape[1:])
        art = PyTorchClassifier(model, nn.CrossEntropyLoss(), shape, nb_classes=4, clip_values=(0.0, 1.0), device_type="cpu")
        eps = float(threat_model.eps)
        attack = ProjectedGradientDescentPyTorch(art, norm=1, eps=eps, eps_step=eps / 4, max_iter=self.steps, verbose=False)
        return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize("seed", range(3))
def test_l1_attack_that_ignores_what_is_saturated_is_caught(steps: int, seed: int) -> None:
    report = attack_test(BareART(steps=steps), seed=seed)
    assert report.found == {"L1 hyperplane": 1.0, "L1 edges": 0.0}
    assert report.problems == ("L1 edges: expected an adversarial for all 8 images, missed 8",)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "fields"), [("art-pgd", {}), ("art-pgd", {"random_start": False}), ("fab", {})])
def test_sound_l1_attack_goes_on_where_values_are_saturated(name: str, fields: dict, seed: int) -> None:
    assert attack_test(attack_of(name, **fields), seed=seed).found["L1 edges"] == 1.0


COUNTER = iter(range(1000))


@pytest.mark.parametrize(
    ("faulty", "problem"),
    [
        (Backwards(), "expected an adversarial for all 8 images, missed 8"),
        (Forgetful(), "showed the model adversarials of 8 images and returned others"),
        (Escaping(), "expected images inside ball and"),
        (Gambling(), "expected the same images for the same seed"),
        (Misshapen(), "expected torch.float32"),
        (Blind(), "got no backward pass"),
        (Switching(), "got a call for training mode"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Attack) else "",
)
def test_faulty_plug_in_is_caught_and_named(faulty: Attack, problem: str) -> None:
    report = attack_test(faulty)
    assert not report.passed
    assert any(problem in line for line in report.problems)
    with pytest.raises(HarnessError, match=r"attacks\.own: Linf hyperplane"):
        report.check()


def test_control_attack_cannot_be_tested() -> None:
    with pytest.raises(HarnessError, match="got a control"):
        attack_test(attack_of("random_noise"))


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("plant", PLANTS)
def test_planted_nets_start_correct_inside_the_pixel_range(plant: str, norm: Norm) -> None:
    net, x = PLANTS[plant](6, ThreatModel(norm=norm, eps="1/10"), factor=1.25, seed=1)
    assert x.min() > 0
    assert x.max() < 1
    margins = net(x).topk(2).values
    assert (margins[:, 0] > margins[:, 1]).all()


def test_hyperplane_lies_at_the_distance_asked_for() -> None:
    for norm in Norm:
        net, x = PLANTS["hyperplane"](6, ThreatModel(norm=norm, eps="1/4"), factor=1.25, seed=1)
        assert torch.allclose(net.smallest_distance(x, norm), torch.full((6,), 0.2), atol=1e-4)


def test_needle_lies_inside_the_ball_and_is_adversarial() -> None:
    for norm in Norm:
        threat_model = ThreatModel(norm=norm, eps="1/4")
        net, x = PLANTS["needles"](6, threat_model, factor=1.25, seed=1)
        assert threat_model.violation(net.points, x).max() == 0
        assert (net(net.points).argmax(dim=1) != net(x).argmax(dim=1)).all()


@pytest.mark.parametrize("factor", [1.25, 4.0])
def test_plane_among_edges_lies_at_the_l1_distance_asked_for_and_no_nearer(factor: float) -> None:
    threat_model = ThreatModel(norm="L1", eps="3/10")
    net, x = PLANTS["edges"](6, threat_model, factor=factor, seed=1)
    for share, crossed in ((0.99, False), (1.01, True)):
        best = best_l1_point(net.weight.expand_as(x), x, eps=share * 0.3 / factor)
        assert ((net(best).argmax(dim=1) == 1) == crossed).all()
    at_edge = (best == 0) | (best == 1)
    assert (at_edge.flatten(1).sum(dim=1) == SATURATED).all()
