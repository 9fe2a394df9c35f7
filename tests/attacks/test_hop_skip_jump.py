"""HopSkipJump asks for labels alone, counts what it asks, and breaks networks that round."""

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.base import ATTACKS
from harness.attacks.decisions import Decisions, Spent
from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.threat import ThreatModel

EPS = "80/255"


class Labels(nn.Module):
    """A network that gives the class alone, and counts the images that it is shown."""

    def __init__(self, network: nn.Module, levels: int | None = None) -> None:
        """See the class."""
        super().__init__()
        self.network, self.levels, self.shown = network, levels, 0

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Returns (n, K), a 1 at the class of each image."""
        self.shown += len(x)
        logits = self.network(x if self.levels is None else (x * self.levels).round() / self.levels)
        return nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).float()


@pytest.fixture
def few(digits: AttackInput) -> AttackInput:
    """Returns ten digits that the network knows."""
    rows = (digits.model(digits.x).argmax(dim=1) == digits.y).nonzero().flatten()[:10]
    return digits.at(rows)


def attacked(inputs: AttackInput, *, queries: int, norm: str = "Linf", eps: str = EPS) -> tuple[int, int]:
    """Returns how many examples are adversarial, and the forward passes of all."""
    attack = ATTACKS.parse({"name": "hop_skip_jump", "queries": queries})
    found = run_attack(attack, inputs, threat_model=ThreatModel(norm=norm, eps=eps), seed=0)
    return int(found.is_adversarial.sum()), found.evidence.forwards


@pytest.mark.parametrize(("norm", "eps"), [("Linf", EPS), ("L2", "2")])
def test_labels_alone_are_enough(norm: str, eps: str, few: AttackInput) -> None:
    labels = Labels(few.model)
    by_labels = AttackInput(labels, few.x, few.y)
    found, forwards = attacked(by_labels, queries=400, norm=norm, eps=eps)
    assert found >= 7
    assert forwards == labels.shown - len(few.x)  # all but the frame's own look at what it projects
    assert forwards <= len(few.x) * 402 + len(few.x)
    fewer, _ = attacked(by_labels, queries=30, norm=norm, eps=eps)
    assert fewer <= found


def test_network_that_rounds_its_images_is_broken_nearly_as_often(few: AttackInput) -> None:
    exact, _ = attacked(AttackInput(Labels(few.model), few.x, few.y), queries=600)
    rounded, _ = attacked(AttackInput(Labels(few.model, levels=127), few.x, few.y), queries=600)
    assert exact >= 8
    assert rounded >= exact - 2


def test_queries_end_the_search_and_the_nearest_adversarial_stays(few: AttackInput) -> None:
    threat_model = ThreatModel(eps=EPS)
    decisions = Decisions(few.model, few.x, 0, label=int(few.y[0]), threat_model=threat_model, queries=7, most=32)
    others = few.x[few.y != few.y[0]][:3]
    decisions(others)
    assert decisions.found
    assert decisions.left == 4
    near = decisions.distance
    assert near == pytest.approx(float(threat_model.distance(others, few.x[:1].expand_as(others)).min()))
    with pytest.raises(Spent):
        decisions(few.x[:1].expand(9, -1, -1, -1))
    assert decisions.left == 0
    assert decisions.distance == near


def test_image_without_a_start_is_left_as_it_is(few: AttackInput) -> None:
    constant = nn.Sequential(nn.Flatten(), nn.Linear(few.x[0].numel(), 10))
    nn.init.zeros_(constant[1].weight)
    constant[1].bias.data = torch.eye(10)[3]
    inputs = AttackInput(constant.eval().requires_grad_(False), few.x[:2], torch.full((2,), 3))
    found, forwards = attacked(inputs, queries=50)
    assert (found, forwards) == (0, 2 + 2 * 50 + 2)
