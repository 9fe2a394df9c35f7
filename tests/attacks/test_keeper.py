"""What an attack hands over of examples that it does not break, for other networks to be shown."""

from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.criterion import Criterion
from harness.attacks.frame import run_attack
from harness.attacks.keeper import Keeper
from harness.attacks.results import AttackInput, AttackResult
from harness.threat import Norm, ThreatModel
from tests.attacks.nets import LinearNet, attack_of, clear_images, images, threat

FEW = {"steps": 6, "fab_steps": 3, "queries": 20, "targets": 2, "search_steps": 2}
COUNT = 10
CASES = [
    (name, norm, targeted)
    for name in ATTACKS.names()
    for norm in Norm
    for targeted in (False, True)
    if ATTACKS.get(name)(name=name).supports(ThreatModel(norm=norm, eps="1/2", targeted=targeted)) is None
]


class Wide(LinearNet):
    """A linear net of classes none of which is out of reach."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.head.bias += torch.tensor([0.0, 0.0, 20.0, 21.0])


def _few(name: str) -> Attack:
    return attack_of(name, **{field: value for field, value in FEW.items() if field in ATTACKS.get(name).model_fields})


def _handed_over(attack: Attack, norm: Norm, *, share: float, targeted: bool = False) -> tuple[AttackInput, AttackResult]:
    """Attacks with a budget of that share of the median distance to the boundary: on some examples there is no success."""
    net = Wide().requires_grad_(False)
    x = images(COUNT, low=0.2, high=0.8)
    y = net(x).argmax(dim=1)
    inputs = AttackInput(net, x, net(x).topk(2).indices[:, 1] if targeted else y)
    threat_model = ThreatModel(norm=norm, eps=round(share * float(net.smallest_distance(x, norm).median()), 5), targeted=targeted)
    return inputs, run_attack(attack, inputs, threat_model=threat_model, seed=0, best_of_iterates=False)


@pytest.mark.parametrize(("name", "norm", "targeted"), CASES)
def test_every_example_that_stands_has_an_image_of_the_attacks_own_inside_the_ball(name: str, norm: Norm, targeted: bool) -> None:
    inputs, result = _handed_over(_few(name), norm, share=0.5, targeted=targeted)
    distance = result.distance
    assert (~result.is_adversarial).any()
    assert (distance[~result.is_adversarial] > 1e-4).all()
    assert result.x_adv.aminmax().min >= 0
    assert result.x_adv.aminmax().max <= 1
    assert torch.allclose(result.logits, inputs.model(result.x_adv), atol=1e-5)
    criterion = Criterion(inputs.y, targeted=targeted)
    assert torch.equal(result.is_adversarial, criterion.is_adversarial(result.logits, torch.arange(COUNT)))


@pytest.mark.parametrize("name", [name for name in ATTACKS.names() if ATTACKS.get(name).ACCESS not in ("none", "black_box")])
def test_images_that_stand_lie_closer_to_the_boundary_than_the_originals(name: str) -> None:
    norm = Norm.LINF if Norm.LINF in ATTACKS.get(name).NORMS else Norm.L2
    inputs, result = _handed_over(_few(name), norm, share=0.7)
    criterion, rows = Criterion(inputs.y, targeted=False), torch.arange(COUNT)
    before, after = criterion.margin(inputs.model(inputs.x), rows), criterion.margin(result.logits, rows)
    assert (after < before)[~result.is_adversarial].all()


class Giving(Attack):
    """Shows some images and returns one."""

    name: Literal["giving"] = "giving"
    MOVES: ClassVar[tuple[float, ...]] = ()
    RETURNED: ClassVar[float] = 0.0

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        for move in self.MOVES:
            model(self.moved(model, x, move))
        return self.moved(model, x, self.RETURNED)

    @staticmethod
    def moved(model: nn.Module, x: Tensor, move: float) -> Tensor:
        """Towards the nearest boundary of a linear net of two classes, in shares of the way."""
        return x + move * DIRECTION


DIRECTION = (LinearNet().head.weight[1] - LinearNet().head.weight[0]).sign().view(1, 3, 8, 8).detach() * 0.01


@pytest.fixture
def far() -> AttackInput:
    """Images of class 0 that a step along `DIRECTION` moves towards class 1."""
    net = LinearNet().requires_grad_(False)
    x = clear_images(net, 20)
    return AttackInput(net, x, net(x).argmax(dim=1)).at((net(x).argmax(dim=1) == 0).nonzero().flatten()[:4])


@pytest.mark.parametrize(
    ("moves", "returned", "expected"),
    [
        ((0.0, 0.5, 1.0, 0.2), 0.0, 1.0),  # the closest one, not the last
        ((0.5,), 0.8, 0.8),  # the returned one where it is closer
        ((0.0,), 0.0, 0.0),  # nothing else was shown
        ((0.5, 5.0), 0.0, 0.5),  # what lies outside the ball counts only
        ((0.0, 5.0), 0.0, 1.0),  # where nothing inside was shown, and is projected
    ],
)
def test_most_promising_image_is_handed_over(
    far: AttackInput, moves: tuple[float, ...], returned: float, expected: float
) -> None:
    class Planted(Giving):
        MOVES: ClassVar[tuple[float, ...]] = moves
        RETURNED: ClassVar[float] = returned

    result = run_attack(Planted(), far, threat_model=threat("1/100"), seed=0, best_of_iterates=False)
    assert not result.is_adversarial.any()
    assert torch.allclose(result.x_adv, far.x + expected * DIRECTION, atol=1e-6)


def test_attack_that_returns_its_last_iterate_is_left_alone(far: AttackInput) -> None:
    class Last(Giving):
        RETURNS_LAST: ClassVar[bool] = True
        MOVES: ClassVar[tuple[float, ...]] = (1.0, 0.5)
        RETURNED: ClassVar[float] = 0.2

    result = run_attack(Last(), far, threat_model=threat("1/100"), seed=0, best_of_iterates=False)
    assert torch.equal(result.x_adv, far.x + 0.2 * DIRECTION)


def test_images_of_dropped_examples_and_of_repeated_ones_are_kept_with_their_own(far: AttackInput) -> None:
    watched = Keeper(far.model, far.x, Criterion(far.y, targeted=False), threat_model=threat("1/100"))
    rows = torch.tensor([2, 0, 2])
    shown = far.x[rows] + torch.tensor([0.9, 0.4, 0.3]).view(3, 1, 1, 1) * DIRECTION
    watched(shown)
    assert watched.kept.tolist() == [True, False, True, False][: len(far.x)]
    assert torch.equal(watched.promising[rows[:2]], shown[:2])
    watched(shown.flip(0) * torch.nan)
    assert torch.equal(watched.promising[rows[:2]], shown[:2])
