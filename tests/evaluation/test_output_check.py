"""Heads that squash their outputs are noticed, whatever they are made of; small, scaled and normalised logits are not."""

import math
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness.evaluation.output_check import are_bounded
from harness.threat import ThreatModel

DIGITS = load_digits()
X = torch.tensor(DIGITS.images / 16, dtype=torch.float32)[:, None].repeat(1, 3, 1, 1)
Y = torch.tensor(DIGITS.target)
PROBED = torch.cat([(Y[1200:] == digit).nonzero().flatten()[:2] for digit in range(10)])[:16] + 1200


class Head(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)


class Cosine(nn.Module):
    """Cosines of the angles between features and classes, times a scale."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.randn(10, width)), nn.Parameter(torch.tensor(scale))

    def forward(self, z: Tensor) -> Tensor:
        return self.scale * functional.linear(functional.normalize(z, dim=1), functional.normalize(self.weight, dim=1))


def network(*last: nn.Module) -> nn.Module:
    """Two layers on digits, with a head of its own."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 48), nn.ReLU(), *last)


def trained(make: Callable[[], nn.Module], loss: Callable[[Tensor, Tensor], Tensor], epochs: int = 6) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make()
        optimiser = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(epochs):
            for rows in torch.randperm(1200).split(64):
                optimiser.zero_grad()
                loss(net(X[rows]), Y[rows]).backward()
                optimiser.step()
    return net.eval()


def one_against_rest(z: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(z, functional.one_hot(y, 10).float())


def squared(z: Tensor, y: Tensor) -> Tensor:
    return (z - functional.one_hot(y, 10)).square().sum(dim=1).mean()


@pytest.fixture(scope="module")
def bodies() -> dict[str, nn.Module]:
    """Networks with logits, trained in two ways."""
    losses = {"softmax": functional.cross_entropy, "sigmoid": one_against_rest}
    return {name: trained(lambda: network(nn.Linear(48, 10)), loss) for name, loss in losses.items()}


SQUASHING: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "per cent": lambda z: 100 * torch.sigmoid(z),
    "shifted": lambda z: 7 * torch.sigmoid(z) - 3,
    "by hand": lambda z: 1 / (1 + torch.exp(-z)),
    "softmax": lambda z: z.softmax(dim=1),
    "100 softmax": lambda z: 100 * z.softmax(dim=1),
    "softmax by hand": lambda z: z.exp() / z.exp().sum(dim=1, keepdim=True),
    "mean of two": lambda z: (z.softmax(dim=1) + (z / 2).softmax(dim=1)) / 2,
    "tanh": torch.tanh,
    "5 tanh": lambda z: 5 * torch.tanh(z),
    "hardtanh": functional.hardtanh,
    "clamp": lambda z: z.clamp(0, 1),
    "softsign": functional.softsign,  # it takes large logits to reach its ends: of the smaller ones nothing is said
    "arctan": torch.atan,
}
HONEST: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda z: z,
    "small": lambda z: z / 1000,
    "within [0,1]": lambda z: 0.5 + z / 200,
    "large": lambda z: 1000 * z,
    "log softmax": lambda z: z.log_softmax(dim=1),
    "centred": lambda z: z - z.mean(dim=1, keepdim=True),
    "soft cap": lambda z: 30 * torch.tanh(z / 30),
    "hard cap": lambda z: z.clamp(-50, 50),
    "relu": functional.relu,
    "softplus": functional.softplus,
    "swish by hand": lambda z: z / (1 + torch.exp(-z)),
    "layer norm": lambda z: functional.layer_norm(z, (10,)),
    "unit length": lambda z: functional.normalize(z, dim=1),
    "rounded": lambda z: (z * 4).round() / 4,
    "masked": lambda z: torch.cat([z, torch.full_like(z[:, :2], -math.inf)], dim=1),
}


@pytest.mark.parametrize(
    ("body", "name"),
    [(body, name) for name in SQUASHING for body in ("softmax", "sigmoid") if (body, name) != ("sigmoid", "softsign")],
)
def test_squashed_outputs_are_noticed(bodies: dict[str, nn.Module], body: str, name: str) -> None:
    assert are_bounded(nn.Sequential(bodies[body], Head(SQUASHING[name])).eval(), X[PROBED])


def test_squashed_outputs_are_noticed_in_a_network_that_cannot_be_looked_into(bodies: dict[str, nn.Module]) -> None:
    model = torch.jit.trace(nn.Sequential(bodies["sigmoid"], nn.Sigmoid()).eval(), X[:2])
    for _ in range(3):  # the graph is fused after a few passes
        model(X[:4].requires_grad_()).sum().backward()
    assert are_bounded(torch.jit.freeze(model.eval()), X[PROBED])


@pytest.mark.parametrize("body", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", HONEST)
def test_honest_logits_are_not(bodies: dict[str, nn.Module], body: str, name: str) -> None:
    assert not are_bounded(nn.Sequential(bodies[body], Head(HONEST[name])).eval(), X[PROBED])


@pytest.mark.parametrize(
    "make",
    [
        lambda: network(nn.Linear(48, 10)).eval(),
        lambda: network(Cosine(48, 1.0)).eval(),
        lambda: trained(lambda: network(Cosine(48, 16.0)), functional.cross_entropy),
        lambda: trained(lambda: network(Cosine(48, 4.0)), functional.cross_entropy, epochs=15),
        lambda: trained(lambda: network(nn.Linear(48, 10)), squared),
        lambda: trained(lambda: network(nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 10)), functional.cross_entropy),
        lambda: trained(lambda: network(nn.Linear(48, 10), nn.BatchNorm1d(10)), functional.cross_entropy),
    ],
    ids=["untrained", "cosine untrained", "cosine", "cosine of a small scale", "squared error", "bounded features", "batch norm"],
)
def test_heads_whose_bounds_harm_no_attack_are_not(make: Callable[[], nn.Module]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not are_bounded(make(), X[PROBED])


def test_network_without_gradients_is_judged_by_what_it_shows(bodies: dict[str, nn.Module]) -> None:
    assert not are_bounded(nn.Sequential(Head(Tensor.detach), bodies["softmax"]), X[PROBED])
    assert are_bounded(nn.Sequential(Head(Tensor.detach), bodies["softmax"], Head(lambda z: 100 * z.softmax(1))), X[PROBED])


def test_sigmoid_is_said_of_attacks_on_the_cross_entropy_and_not_of_margins(bodies: dict[str, nn.Module]) -> None:
    attacks = ["fgsm", "pgd", {"name": "apgd-t", "steps": 3}, {"name": "square", "queries": 5}, "random_noise"]
    attacks.append({"name": "strong", "steps": 3, "fab_steps": 2, "queries": 5})
    model, data = nn.Sequential(bodies["sigmoid"], nn.Sigmoid()).eval(), (X[1200:1240], Y[1200:1240])
    table = harness.evaluate(model, data, attacks=attacks, threat_model=ThreatModel(eps="8/255")).set_index("attack")
    accused = table.verdict_reasons.str.contains("bounded outputs instead of logits")
    assert set(accused[accused].index) == {"fgsm", "pgd"}
    assert set(table.verdict[accused]) == {"SUSPECT"}
    assert table.verdict["none"] == "PASS"
