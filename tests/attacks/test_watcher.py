import pytest
import torch
from torch import nn

from harness.attacks.collectors import AllAdversarial, FirstAdversarial, NearestAdversarial
from harness.attacks.criterion import Criterion
from harness.attacks.watcher import Watcher, first_of_each
from tests.attacks.nets import CLASSES, LinearNet, conv_net, images, threat


def _first(net: nn.Module, x: torch.Tensor, y: torch.Tensor, eps: str = "8/255") -> FirstAdversarial:
    return FirstAdversarial(net, x, Criterion(y, targeted=False), threat_model=threat(eps), reference=net)


@pytest.fixture
def net() -> LinearNet:
    return LinearNet().requires_grad_(False)


@pytest.fixture
def x() -> torch.Tensor:
    return images(6)


def _broken(net: LinearNet, x: torch.Tensor, eps: float) -> torch.Tensor:
    """The strongest Linf perturbation of a linear net for its runner-up class."""
    top = net(x).topk(2).indices
    direction = net.head.weight[top[:, 1]] - net.head.weight[top[:, 0]]
    return (x + eps * direction.sign().view_as(x)).clamp(0, 1)


def test_plain_watcher_changes_no_bit_of_logits_and_gradients() -> None:
    net, x, y = conv_net(), images(5), torch.arange(5) % CLASSES
    watched = Watcher(net, x, Criterion(y, targeted=False), threat_model=threat())
    results = []
    for model in (net, watched):
        leaf = x.clone().requires_grad_()
        logits = model(leaf)
        results.append((logits, torch.autograd.grad(nn.functional.cross_entropy(logits, y), leaf)[0]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_passes_are_counted_in_examples(net: LinearNet, x: torch.Tensor) -> None:
    watched = Watcher(net, x, Criterion(net(x).argmax(1), targeted=False), threat_model=threat())
    watched(x)
    leaf = x[:4].clone().requires_grad_()
    watched(leaf).sum().backward()
    assert (watched.forwards, watched.backwards) == (10, 4)
    assert watched.gradients.tolist() == [1, 1, 1, 1, 0, 0]


def test_gradients_are_counted_whoever_they_are_of(net: LinearNet, x: torch.Tensor) -> None:
    watched = Watcher(net, x, Criterion(net(x).argmax(1), targeted=False), threat_model=threat())
    for count, turns in ((6, 3), (2, 2), (6, 1), (4, 5)):
        for _ in range(turns):
            watched(x[:count].clone().requires_grad_()).sum().backward()
    assert watched.gradients.tolist() == [11, 11, 9, 9, 4, 4] == watched.gradients.tolist()


def test_iterate_outside_the_ball_is_no_success(net: LinearNet, x: torch.Tensor) -> None:
    watched = _first(net, x, net(x).argmax(1), "1/255")
    watched(_broken(net, x, 0.3))
    assert not watched.success.any()


def test_iterate_outside_the_bounds_is_no_success(net: LinearNet, x: torch.Tensor) -> None:
    watched = _first(net, x, net(x).argmax(1), "1")
    watched(_broken(net, x, 0.3) - 0.65)
    assert not watched.success.any()


def test_every_recorded_success_holds_on_the_judge(x: torch.Tensor) -> None:
    net, other = LinearNet(0).requires_grad_(False), LinearNet(1).requires_grad_(False)
    y = net(x).argmax(1)
    watched = FirstAdversarial(other, x, Criterion(y, targeted=False), threat_model=threat("0.2"), reference=net)
    watched(_broken(net, x, 0.005))
    watched(_broken(other, x, 0.2))
    kept = watched.success
    assert torch.equal(net(watched.best[kept]).argmax(1) != y[kept], torch.ones_like(y[kept], dtype=torch.bool))


def test_batch_that_is_fully_broken_stops_the_attack(net: LinearNet, x: torch.Tensor) -> None:
    watched = _first(net, x, net(x).argmax(1), "0.25")
    with pytest.raises(AllAdversarial):
        watched(_broken(net, x, 0.25))
    assert watched.success.all()


def test_broken_examples_cost_no_more_passes_and_get_no_gradient(net: LinearNet, x: torch.Tensor) -> None:
    watched = _first(net, x, net(x).argmax(1), "0.25")
    iterate = x.clone()
    iterate[:3] = _broken(net, x, 0.25)[:3]
    watched(iterate)
    assert watched.success.tolist() == [True] * 3 + [False] * 3
    leaf = iterate.clone().requires_grad_()
    logits = watched(leaf)
    assert watched.forwards == len(x) + 3
    assert torch.allclose(logits, net(iterate), atol=1e-5)
    assert (torch.autograd.grad(logits.pow(2).sum(), leaf)[0].flatten(1).abs().amax(1) > 0).tolist() == [False] * 3 + [True] * 3


def test_attack_that_asks_who_stands_goes_on_with_those_alone(net: LinearNet, x: torch.Tensor) -> None:
    watched = _first(net, x, net(x).argmax(1), "0.25")
    assert watched.active() is None
    adversarial, iterate = _broken(net, x, 0.25), x.clone()
    iterate[[0, 2, 4]] = adversarial[[0, 2, 4]]
    watched(iterate)
    active = watched.active()
    assert active is not None
    assert active.tolist() == [False, True] * 3
    last = iterate[active]
    last[1] = adversarial[3]
    watched(last)
    assert watched.success.tolist() == [True, False, True, True, True, False]
    assert torch.equal(watched.best[3], adversarial[3])
    assert watched.active().tolist() == [True, False, True]
    assert watched.forwards == len(x) + 3


def test_full_batch_ends_the_agreement_on_fewer(net: LinearNet, x: torch.Tensor) -> None:
    watched = _first(net, x, net(x).argmax(1), "0.25")
    adversarial, iterate = _broken(net, x, 0.25), x.clone()
    iterate[:3] = adversarial[:3]
    watched(iterate)
    watched.active()
    watched(iterate)
    assert watched.forwards == len(x) + 3
    rows = torch.tensor([4, 0, 3])
    watched(adversarial[rows])
    assert watched.success.tolist() == [True] * 5 + [False]
    assert torch.equal(watched.best[4], adversarial[4])


def test_attack_on_a_part_of_the_batch_may_ask_who_stands_too(net: LinearNet, x: torch.Tensor) -> None:
    watched = _first(net, x, net(x).argmax(1), "0.1")
    rows = torch.tensor([5, 1, 3])
    iterate = x[rows]
    iterate[0] = _broken(net, x, 0.1)[5]
    watched(iterate)
    expected = net(iterate).argmax(1) == net(x[rows]).argmax(1)
    assert watched.active().tolist() == expected.tolist() == [False, True, True]
    assert watched.origins.order.tolist() == [1, 3]


def test_plain_watcher_sends_no_example_away(net: LinearNet, x: torch.Tensor) -> None:
    watched = Watcher(net, x, Criterion(net(x).argmax(1), targeted=False), threat_model=threat("0.25"))
    watched(_broken(net, x, 0.25))
    assert watched.success.all()
    assert watched.active() is None


def test_shorter_batches_are_matched_to_their_originals(net: LinearNet, x: torch.Tensor) -> None:
    watched = _first(net, x, net(x).argmax(1), "0.1")
    rows = torch.tensor([5, 1, 3])
    adversarial = _broken(net, x, 0.1)
    watched(adversarial[rows])
    expected = torch.zeros(6, dtype=torch.bool)
    expected[rows] = net(adversarial[rows]).argmax(1) != net(x[rows]).argmax(1)
    assert expected.any()
    assert torch.equal(watched.success, expected)
    assert torch.equal(watched.best[watched.success], adversarial[watched.success])


def test_label_of_another_example_makes_no_success() -> None:
    """Two images of different classes inside one ball: a row that could belong to either must not break the wrong one."""
    net = LinearNet().requires_grad_(False)
    x = images(3)
    y = net(x).argmax(1)
    watched = _first(net, x, y, "1")
    watched(x[1:2] + 1e-3)
    assert not watched.success.any()


def test_detached_network_gets_zero_gradients_instead_of_an_error(x: torch.Tensor) -> None:
    class Detached(LinearNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.detach())

    net = Detached().requires_grad_(False)
    watched = Watcher(net, x, Criterion(net(x).argmax(1), targeted=False), threat_model=threat())
    leaf = x.clone().requires_grad_()
    gradient = torch.autograd.grad(watched(leaf).sum(), leaf)[0]
    assert not gradient.any()
    assert torch.equal(watched.zero_gradients, watched.gradients)
    assert watched.gradients.sum() == len(x)


def test_non_finite_gradients_are_noted(x: torch.Tensor) -> None:
    class Infinite(LinearNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + (x - x.detach()).abs().sqrt().sum(dim=(1, 2, 3))[:, None]

    watched = Watcher(
        Infinite().requires_grad_(False), x, Criterion(torch.zeros(6).long(), targeted=False), threat_model=threat()
    )
    leaf = x.clone().requires_grad_()
    torch.autograd.grad(watched(leaf).sum(), leaf)
    assert watched.nonfinite_gradients.all()


def test_shrinker_keeps_the_nearest_adversarial(net: LinearNet, x: torch.Tensor) -> None:
    watched = NearestAdversarial(net, x, Criterion(net(x).argmax(1), targeted=False), threat_model=threat("1"), reference=net)
    for eps in (0.3, 0.2, 0.25):
        watched(_broken(net, x, eps))
    assert torch.allclose(watched.distance, torch.full((6,), 0.2), atol=1e-5)
    assert torch.equal(watched.best, _broken(net, x, 0.2))


def test_passing_an_example_twice_keeps_image_and_logits_together(net: LinearNet, x: torch.Tensor) -> None:
    watched = _first(net, x, net(x).argmax(1), "0.2")
    near, far = _broken(net, x, 0.15)[:1], _broken(net, x, 0.2)[:1]
    watched(torch.cat([near, far]))
    assert watched.success[0]
    assert torch.allclose(net(watched.best[:1]), watched.logits[:1], atol=1e-5)


def test_gradients_are_told_apart_though_their_sums_say_nothing(x: torch.Tensor) -> None:
    """In order: zero; its parts cancel; infinite; finite with an infinite sum; not a number; plain."""

    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slopes = torch.zeros_like(x)
            self.slopes[1, 0, 0, 0], self.slopes[1, 0, 0, 1] = 1, -1
            self.slopes[2, 0, 0, 0] = torch.inf
            self.slopes[3, 0, 0, :2] = torch.finfo(torch.float32).max
            self.slopes[4, 0, 0, 0] = torch.nan
            self.slopes[5] = 1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (Sloped.apply(x, self.slopes)).sum(dim=(1, 2, 3))[:, None].expand(-1, CLASSES)

    watched = Watcher(Given(), x, Criterion(torch.zeros(6).long(), targeted=False), threat_model=threat())
    leaf = x.clone().requires_grad_()
    torch.autograd.grad(watched(leaf)[:, 0].sum(), leaf)
    assert watched.zero_gradients.tolist() == [1, 0, 0, 0, 0, 0]
    assert watched.nonfinite_gradients.tolist() == [False, False, True, False, True, False]
    assert watched.blind.tolist() == [True] + [False] * 5


class Sloped(torch.autograd.Function):
    """The images, whose gradient is whatever is given."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        ctx.slopes = slopes
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.slopes, None


@pytest.mark.parametrize(("rows", "positions"), [([], []), ([3, 1, 3, 1, 0], [0, 1, 4]), ([2, 2], [0])])
def testfirst_of_each_row_is_taken(rows: list[int], positions: list[int]) -> None:
    assert first_of_each(torch.tensor(rows, dtype=torch.long)).tolist() == positions


def test_what_breaks_after_the_others_were_left_out_is_spared_too(net: LinearNet, x: torch.Tensor) -> None:
    """An attack may pass what it agreed on again before it asks anew, and all images after that."""
    watched = _first(net, x, net(x).argmax(1), "0.25")
    adversarial, iterate = _broken(net, x, 0.25), x.clone()
    iterate[:2] = adversarial[:2]
    watched(iterate)
    last = iterate[watched.active()]
    watched(last)
    assert watched.active() is None
    last[0] = adversarial[2]
    watched(last)
    passed = watched.forwards
    watched(last)
    assert watched.forwards == passed + 3
    watched(torch.cat([adversarial[:3], x[3:]]))
    assert watched.forwards == passed + 6
    assert watched.active().tolist() == [False] * 3 + [True] * 3
