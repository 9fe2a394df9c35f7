"""Who gives up an adversarial: the attack, or the frame that answered it from memory."""

from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.attacks.torchattacks.auto import APGDCE
from harness.threat import ThreatModel
from tests.attacks.nets import attack_of, images, threat

COUNT = 30
EPS = "8/255"


class Needles(nn.Module):
    """Misclassifies shells on the way uphill: an image at the far end of the ball is as right as the original."""

    def __init__(self, *, width: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * 64, generator=torch.Generator().manual_seed(0)).sign(), requires_grad=False)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        height = (x - 0.5).flatten(1) @ self.weight / 192 * 255  # in units of a 255th
        phase = height.remainder(self.width) / self.width
        margin = 0.3 - (phase - 0.6).abs()  # adversarial within 0.3 of the middle
        return torch.stack([-margin, margin], dim=1)


@pytest.fixture
def inputs() -> AttackInput:
    net = Needles(width=2.0)
    pool = images(20 * COUNT)
    correct = (net(pool).argmax(dim=1) == 0).nonzero().flatten()[:COUNT]
    return AttackInput(net, pool[correct], torch.zeros(COUNT, dtype=torch.int64))


def _silent(attack: Attack, inputs: AttackInput, *, best_of_iterates: bool = True) -> tuple[int, int]:
    """Returns how many examples the attack gave up, and how many it broke."""
    result = run_attack(attack, inputs, threat_model=threat(EPS), seed=0, best_of_iterates=best_of_iterates)
    return result.evidence.silent_successes, int(result.is_adversarial.sum())


class WithRobustImage(nn.Module):
    """The network, but robust on one image: no attack is stopped because it succeeded on all examples."""

    def __init__(self, net: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.net, self.image = net, image

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        same = ((x.detach() - self.image).flatten(1).abs().amax(dim=1) <= 0.1)[:, None]
        return torch.where(same, logits * 0 + torch.tensor([1.0, 0.0]), logits)


@pytest.fixture
def unfinished(inputs: AttackInput) -> AttackInput:
    return AttackInput(WithRobustImage(inputs.model, inputs.x[0]), inputs.x, inputs.y)


def test_remembered_logits_make_apgd_return_images_that_are_none(unfinished: AttackInput) -> None:
    """Without this the next test would say nothing."""
    returned: list[Tensor] = []

    class Noting(APGDCE):
        name: Literal["noting"] = "noting"

        def perturb(
            self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator
        ) -> Tensor:
            returned.append(super().perturb(model, x, y, threat_model=threat_model, generator=generator))
            return returned[-1]

    result = run_attack(Noting(steps=1), unfinished, threat_model=threat(EPS), seed=0)
    adversarial = unfinished.model(returned[0]).argmax(dim=1) != 0
    assert (result.is_adversarial & ~adversarial).float().mean() >= 0.1


@pytest.mark.parametrize(("name", "fields"), [("apgd-ce", {"steps": 1}), ("strong", {"steps": 1, "fab_steps": 2, "queries": 10})])
def test_apgd_is_not_blamed_for_what_the_frame_made_it_take_for_adversarial(
    unfinished: AttackInput, name: str, fields: dict[str, int]
) -> None:
    silent, successes = _silent(attack_of(name, **fields), unfinished)
    assert successes >= COUNT // 4
    assert silent == 0
    assert _silent(attack_of(name, **fields), unfinished, best_of_iterates=False)[0] == 0


class Discarding(APGDCE):
    """Finds what APGD finds and returns the images it was given."""

    name: Literal["discarding"] = "discarding"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        super().perturb(model, x, y, threat_model=threat_model, generator=generator)
        return x.clone()


class Returning(Attack):
    """Shows a walk and returns the start of it, or a point where it never was."""

    name: Literal["returning"] = "returning"
    TO: ClassVar[float] = 0.0

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        walk = float(threat_model.eps) * WAY
        for share in torch.linspace(0.1, 1, 10).tolist():
            model((x + share * walk).clamp(0, 1))
        return (x + self.TO * walk).clamp(0, 1)


WAY = Needles(width=1.0).weight.view(1, 3, 8, 8)


class Elsewhere(Returning):
    TO: ClassVar[float] = -0.05


@pytest.mark.parametrize("attack", [Discarding(steps=10), Returning(), Elsewhere()], ids=["clean", "start", "elsewhere"])
@pytest.mark.parametrize("best_of_iterates", [True, False])
def test_attack_that_finds_and_discards_is_noticed(unfinished: AttackInput, attack: Attack, best_of_iterates: bool) -> None:
    silent, _ = _silent(attack, unfinished, best_of_iterates=best_of_iterates)
    assert silent >= COUNT // 2


def test_success_of_a_twin_is_not_laid_to_the_other_ones_charge() -> None:
    """Of two equal images in a shorter batch nobody knows which is which."""
    net = Needles(width=2.0)
    pool = images(200)
    image = pool[(net(pool).argmax(dim=1) == 0).nonzero().flatten()[:1]]
    other = images(1, seed=9)

    class Half(Attack):
        name: Literal["half"] = "half"

        def perturb(
            self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator
        ) -> Tensor:
            x_adv = x.clone()
            for share in torch.linspace(0.1, 1, 10).tolist():
                moved = x[1:2] + share * float(threat_model.eps) * WAY
                if model(moved).argmax(dim=1) != 0:
                    x_adv[1:2] = moved
            return x_adv

    x = torch.cat([image, image, other])
    assert (
        run_attack(Half(), AttackInput(net, x, net(x).argmax(dim=1)), threat_model=threat(EPS), seed=0).evidence.silent_successes
        == 0
    )
