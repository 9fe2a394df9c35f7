"""Coarse logits and rounding forms: no library gives an example up before the frame takes it for adversarial."""

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.collectors import FirstAdversarial, NearestAdversarial
from harness.attacks.criterion import Criterion
from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.attacks.torchattacks.square import TieAwareSquare
from tests.attacks.nets import attack_of, images, threat

EPS = "1/10"
COUNT = 80
"""Examples of a test."""


class Head(nn.Module):
    """A network whose logits are rounded; gradients pass straight through."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        return logits + (self.rounded(logits) - logits).detach()

    def rounded(self, logits: Tensor) -> Tensor:
        return logits


class Halves(Head):
    def rounded(self, logits: Tensor) -> Tensor:
        return (2 * logits).round() / 2


class BFloat16(Head):
    def rounded(self, logits: Tensor) -> Tensor:
        return (logits + 64).bfloat16().float() - 64  # an offset leaves few bits for the differences


class Int8(Head):
    def rounded(self, logits: Tensor) -> Tensor:
        return (logits / 40 * 127).round().clamp(-128, 127) * 40 / 127


class Typed(Head):
    """Its logits are bfloat16, whose rounding nothing undoes."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).bfloat16()


@pytest.fixture(scope="module")
def few(digits: AttackInput) -> AttackInput:
    correct = (digits.model(digits.x).argmax(dim=1) == digits.y).nonzero().flatten()
    return digits.at(correct[:COUNT])


@pytest.fixture(scope="module")
def truth(few: AttackInput) -> float:
    return _robust(few)


def _robust(inputs: AttackInput, form: nn.Module | None = None) -> float:
    attacked = AttackInput(inputs.model, inputs.x, inputs.y, form)
    result = run_attack(attack_of("square", queries=300), attacked, threat_model=threat(EPS), seed=0)
    return 1 - result.is_adversarial.float().mean().item()


@pytest.mark.parametrize("head", [Halves, BFloat16, Int8, Typed])
def test_square_breaks_as_many_behind_coarse_logits(few: AttackInput, truth: float, head: type[Head]) -> None:
    assert 0.2 < truth < 0.9
    assert abs(_robust(AttackInput(head(few.model).eval(), few.x, few.y)) - truth) <= 0.05


def test_square_goes_on_with_what_only_the_faster_form_takes_for_adversarial(few: AttackInput, truth: float) -> None:
    assert abs(_robust(few, Halves(few.model).eval()) - truth) <= 0.05


@pytest.mark.parametrize(
    ("logits", "targeted", "adversarial"),
    [
        ([2.0, 2.0, 0.0], False, False),  # the tie goes to the lower index, the true class 0
        ([0.0, 2.0, 0.0], False, True),
        ([2.0, 0.0, 2.0], True, True),  # of a targeted attack 0 is the wanted class
        ([-torch.inf, 1.0, 1.0], False, True),
        ([1.0, -torch.inf, -torch.inf], False, False),
    ],
)
@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_margin_is_positive_until_the_prediction_is_another(
    logits: list[float], targeted: bool, adversarial: bool, loss: str
) -> None:
    given = torch.tensor([logits])
    copy = given.clone()
    attack = TieAwareSquare(nn.Identity(), loss=loss)
    attack.targeted = targeted
    margin, _ = attack.margin_and_loss(given, torch.tensor([0]))
    assert bool(margin <= 0) is adversarial
    assert margin.isfinite().all()
    assert torch.equal(given, copy)


def test_tie_in_favour_of_another_class_is_adversarial() -> None:
    margin, _ = TieAwareSquare(nn.Identity()).margin_and_loss(torch.tensor([[1.0, 1.0]]), torch.tensor([1]))
    assert margin <= 0


class Fixed(nn.Module):
    """The same logits for every image, with a slope that the gradient of the images can be told by."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits + 0 * self.logits * x.flatten(1).sum(dim=1, keepdim=True)


@pytest.mark.parametrize("watcher", [FirstAdversarial, NearestAdversarial])
def test_attack_is_told_what_the_network_itself_says_of_an_image_that_only_its_form_misclassifies(watcher: type) -> None:
    x, y = images(3), torch.zeros(3, dtype=torch.int64)
    reference, form = Fixed([1.0, 1.0]), Fixed([1.0, 1.5])
    watched = watcher(form, x, Criterion(y, targeted=False), threat_model=threat(), reference=reference)
    leaf = x.clone().requires_grad_()
    logits = watched(leaf)
    assert torch.equal(logits, reference(x))
    assert not watched.success.any()
    assert torch.autograd.grad(logits.sum(), leaf)[0].isfinite().all()


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "square", "strong"])
def test_no_library_leaves_alone_what_only_the_form_misclassifies(few: AttackInput, name: str) -> None:
    """A form that is wrong about every image: the libraries would not even begin."""
    inputs = few.at(torch.arange(4))

    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -few.model(x)

    fields = {"steps": 3, "fab_steps": 2, "queries": 6, "targets": 2}
    attack = attack_of(name, **{key: value for key, value in fields.items() if key in attack_of(name).__class__.model_fields})
    attacked = AttackInput(inputs.model, inputs.x, inputs.y, Wrong())
    result = run_attack(attack, attacked, threat_model=threat("1/255"), seed=0)
    assert not result.is_adversarial.any()
    assert result.evidence.forwards >= 4 * (6 if name == "square" else 3)


def test_hundred_queries_are_103_passes(few: AttackInput) -> None:
    """As the field's description says; the frame's own pass of the returned image comes on top."""
    inputs = few.at(torch.arange(3))
    result = run_attack(attack_of("square", queries=100), inputs, threat_model=threat("1/2550"), seed=0)
    assert not result.is_adversarial.any()
    assert result.evidence.forwards == 3 * (103 + 1)
