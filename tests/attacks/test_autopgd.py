"""APGD's step control: its passes, who leaves the batch, and what the probability margin asks of it."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.attacks.autopgd import AutoPGD, random_start
from harness.attacks.criterion import Criterion
from harness.attacks.frame import run_attack
from harness.attacks.margin import away_from, towards
from harness.attacks.results import AttackInput
from harness.threat import Norm, ThreatModel
from tests.attacks.nets import CLASSES, LinearNet, attack_of, clear_images, conv_net, images, threat

STEPS = 6


class Counting(nn.Module):
    """Counts the images of each forward pass."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.batches = net, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        return self.net(x)


@pytest.fixture
def near_and_far() -> tuple[AttackInput, Counting, ThreatModel]:
    """Three examples of a linear net; the budget reaches the boundary of the second one alone."""
    net, pool = LinearNet(), images(60)
    x = pool[net.smallest_distance(pool, Norm.LINF).argsort(descending=True)[[0, -1, 1]]]
    distance, counting = net.smallest_distance(x, Norm.LINF), Counting(net)
    return AttackInput(counting, x, net(x).argmax(dim=1)), counting, ThreatModel(eps=float(distance[1:].prod().sqrt()))


def test_example_leaves_the_batch_once_it_is_adversarial(near_and_far: tuple[AttackInput, Counting, ThreatModel]) -> None:
    inputs, counting, threat_model = near_and_far
    result = run_attack(attack_of("pma", steps=STEPS), inputs, threat_model=threat_model, seed=0)
    assert result.is_adversarial.tolist() == [False, True, False]
    fulls = counting.batches.index(2)  # passes in which the second example took part
    assert counting.batches == [3] * fulls + [2] * (STEPS + 1 - fulls) + [2]  # the frame judges what is returned of the others
    assert result.evidence.forwards == sum(counting.batches)
    assert result.evidence.backwards == 3 * fulls + 2 * (STEPS - fulls)


def test_targets_after_the_first_get_no_pass_of_an_adversarial_example(
    near_and_far: tuple[AttackInput, Counting, ThreatModel],
) -> None:
    inputs, counting, threat_model = near_and_far
    result = run_attack(attack_of("malt", steps=STEPS, targets=2, candidates=3), inputs, threat_model=threat_model, seed=0)
    assert result.is_adversarial.tolist() == [False, True, False]
    fulls = 1 + sum(size == 3 for size in counting.batches[1:])  # the order of the targets takes one pass of all
    assert counting.batches == [3] * fulls + [2] * (1 + 2 * (STEPS + 1) - fulls) + [2]
    assert result.evidence.backwards == 3 * 3 + 3 * (fulls - 1) + 2 * (2 * STEPS - (fulls - 1))


@pytest.mark.parametrize("name", ["pma", "malt", "audited"])
def test_attack_ends_where_every_example_is_adversarial(name: str) -> None:
    net = Counting(conv_net())
    x = images(4)
    inputs = AttackInput(net, x, net(x).argmax(dim=1))
    net.batches.clear()
    result = run_attack(attack_of(name), inputs, threat_model=threat("250/255"), seed=0)
    assert result.is_adversarial.all()
    assert len(net.batches) < 20


@pytest.mark.parametrize("best_of_iterates", [True, False])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_what_is_returned_is_adversarial_where_an_iterate_was(norm: str, best_of_iterates: bool) -> None:
    net, x = conv_net(), images(30)
    inputs = AttackInput(net, x, net(x).argmax(dim=1))
    threat_model = threat("4/255" if norm == "Linf" else "0.2", norm)
    results = [
        run_attack(attack_of(name, steps=10), inputs, threat_model=threat_model, seed=0, best_of_iterates=best_of_iterates)
        for name in ("pma", "malt")
    ]
    for result in results:
        assert 0 < result.is_adversarial.sum() < len(x)
        assert result.evidence.silent_successes == 0
        assert torch.equal(net(result.x_adv).argmax(dim=1) != inputs.y, result.is_adversarial)


def test_best_of_iterates_changes_nothing_about_what_is_found() -> None:
    net, x = conv_net(), images(30)
    inputs = AttackInput(net, x, net(x).argmax(dim=1))
    kept, returned = (
        run_attack(attack_of("pma", steps=10), inputs, threat_model=threat("4/255"), seed=0, best_of_iterates=best).x_adv
        for best in (True, False)
    )
    assert torch.equal(kept, returned)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_targeted_margin_reaches_the_wanted_class(norm: str) -> None:
    net, x = conv_net(), images(20)
    wanted = (net(x).argmax(dim=1) + 1) % CLASSES
    threat_model = threat("60/255" if norm == "Linf" else "4", norm, targeted=True)
    result = run_attack(attack_of("pma"), AttackInput(net, x, wanted), threat_model=threat_model, seed=0)
    assert result.is_adversarial.float().mean() >= 0.9
    assert torch.equal(net(result.x_adv).argmax(dim=1) == wanted, result.is_adversarial)


def test_step_size_halves_where_the_objective_does_not_rise() -> None:
    """A net whose margin is largest at the original image: no step raises the objective."""

    class Peak(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            far = (x - 0.5).flatten(1).square().sum(dim=1, keepdim=True)
            return torch.cat([far + 1, torch.zeros_like(far)], dim=1)

    x = torch.full((1, 3, 4, 4), 0.5)
    iterates: list[Tensor] = []

    class Recording(Peak):
        def forward(self, x: Tensor) -> Tensor:
            iterates.append(x.detach().clone())
            return super().forward(x)

    search = AutoPGD(Recording(), x, Criterion(torch.tensor([0]), targeted=False), threat_model=threat("8/255"))
    search.ascend(
        lambda logits, rows: away_from(logits, torch.zeros_like(rows)), steps=40, generator=torch.Generator().manual_seed(0)
    )
    moves = [float((after - before).abs().max()) for before, after in itertools.pairwise(iterates)]
    assert max(moves[-3:]) < max(moves[:3]) / 8
    assert float((iterates[-1] - x).abs().max()) < 1 / 255


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_random_starts_lie_on_the_boundary_of_the_ball(norm: str) -> None:
    x, threat_model = images(5), threat("8/255" if norm == "Linf" else "0.3", norm)
    first, second = (random_start(x, threat_model, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    torch.testing.assert_close(threat_model.distance(first, x), torch.full((5,), float(threat_model.eps)))
    assert not torch.equal(first, second)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 5.0]))
def test_objective_is_the_logarithm_of_one_plus_the_probability_margin(classes: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(6, classes, generator=generator, dtype=torch.float64) * scale).requires_grad_()
    y = torch.randint(classes, (6,), generator=generator)
    probabilities = logits.softmax(dim=1)
    margin = probabilities.scatter(1, y[:, None], -torch.inf).amax(dim=1) - probabilities.gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(away_from(logits, y), torch.log(1 + margin))
    torch.testing.assert_close(towards(logits, y), -torch.log(1 + margin))
    (plain,) = torch.autograd.grad(margin.sum(), logits, retain_graph=True)
    (slope,) = torch.autograd.grad(away_from(logits, y).sum(), logits)
    torch.testing.assert_close(slope * (1 + margin.detach())[:, None], plain)


@pytest.mark.parametrize("margin", [20.0, 200.0, 2000.0])
def test_objective_of_a_confident_network_keeps_its_gradient(margin: float) -> None:
    logits = torch.tensor([[margin, 0.0, -1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(away_from(logits, torch.tensor([0])).sum(), logits)
    assert gradient[0, 0] == pytest.approx(-1.0)
    assert gradient[0, 1] > 0.5


@pytest.mark.parametrize("name", ["pma", "malt"])
@pytest.mark.parametrize("scale", [1.0, 100.0, 10_000.0])
def test_margins_do_not_depend_on_the_scale_of_the_logits(name: str, scale: float) -> None:
    """A linear net with enormous logits has the same boundaries; the cross-entropy would be blind."""

    class Scaled(LinearNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * scale

    net = Scaled()
    x = clear_images(net, 4)
    distance = float(LinearNet().smallest_distance(x, Norm.LINF).max())
    inputs = AttackInput(net, x, net(x).argmax(dim=1))
    assert run_attack(
        attack_of(name, steps=20), inputs, threat_model=ThreatModel(eps=1.25 * distance), seed=0
    ).is_adversarial.all()
