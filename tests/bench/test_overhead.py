"""What the harness's own share is taken from."""

import time
from copy import deepcopy
from fractions import Fraction
from itertools import count
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.collectors import FirstAdversarial
from harness.attacks.torchattacks import inplace
from harness.attacks.torchattacks.inplace import InPlacePGD
from harness.attacks.watcher import Watcher
from harness.datasets.tensors import TensorSplit
from harness.evaluation.ledger import Ledger
from harness.models import inference
from tests.bench.overhead import Clock, Stopwatch, shares, timed_backward
from tests.bench.workload import Workload


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock on which a second passes whenever it is looked at."""
    monkeypatch.setattr(time, "perf_counter", count().__next__)
    return Clock()


def test_time_is_charged_to_what_was_entered_last(clock: Clock) -> None:
    clock.enter("attack")
    clock.enter("pass")
    clock.leave()
    clock.leave()
    assert clock.shares() == {"pass": 1 / 5, "attack": 2 / 5, "own": 2 / 5}


def test_what_is_not_left_is_no_measurement(clock: Clock) -> None:
    clock.enter("pass")
    with pytest.raises(RuntimeError, match=r"still inside \['pass'\]"):
        clock.shares()


def test_a_method_is_charged_where_it_raises_too(clock: Clock) -> None:
    class Failing:
        def fail(self) -> None:
            raise ValueError

    with pytest.raises(ValueError), clock.charging(Failing, "fail", "attack"):  # noqa: PT011 - whatever it raises
        Failing().fail()
    assert clock.shares()["attack"] == 1 / 3


def test_what_happens_between_the_networks_images_and_the_attacks_is_no_pass(clock: Clock) -> None:
    network, x = Stopwatch(nn.Flatten(), clock), torch.rand(1, 3, 2, 2, requires_grad=True)
    entered: list[str] = []
    with timed_backward(clock), patch.object(clock, "enter", side_effect=clock.enter) as enter:
        between = x * 1
        between.register_hook(lambda _: entered.append(clock._entered[-1]))
        torch.autograd.grad(network(between).sum(), x)
    assert entered == ["own"]
    assert [call.args for call in enter.call_args_list] == [("pass",), ("own",), ("pass",), ("pass",)]
    assert clock.shares()["pass"] > 0


def test_copies_of_a_network_share_the_clock(clock: Clock) -> None:
    assert deepcopy(Stopwatch(nn.Flatten(), clock)).clock is clock


class Slow(nn.Module):
    """A small network; where time is told to pass in it, its forward pass takes a second."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.mark.parametrize(
    ("owner", "name", "kind"),
    [
        (Slow, "forward", "pass"),
        (InPlacePGD, "_step", "attack"),
        (InPlacePGD, "_start", "attack"),
        (inplace, "_only", "own"),
        (Watcher, "_measure", "own"),
        (FirstAdversarial, "_see", "own"),
        (FirstAdversarial, "active", "own"),
        (FirstAdversarial, "completed", "own"),
        (Ledger, "note", "own"),
        (inference, "fold_batchnorm", "own"),
    ],
)
def test_time_counts_as_what_passes_it(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, kind: str) -> None:
    """Time stands still but for one second in each call of a function: all of it is of one kind."""
    now, function = [0.0], getattr(owner, name)

    def slow(*arguments: object, **named: object) -> object:
        now[0] += 1
        return function(*arguments, **named)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x = Slow().eval(), torch.rand(12, 3, 8, 8)
    y = net(x).argmax(dim=1)
    found = Workload("random images", {"net": net}, TensorSplit(x, y), x, y, batch=6)
    monkeypatch.setattr(owner, name, slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    kinds = shares(net, found, [Fraction(1, 100), Fraction(1, 50)])
    assert kinds == {"pass": 0.0, "attack": 0.0, "own": 0.0, kind: 1.0}
