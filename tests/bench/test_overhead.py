"""What the harness's own share is taken from."""

import time
from copy import deepcopy
from fractions import Fraction
from itertools import count
from unittest.mock import patch

import pytest
import torch
from torch import nn

from harness.datasets.tensors import TensorSplit
from tests.bench.overhead import Clock, Stopwatch, shares, timed_backward
from tests.bench.subjects import Subjects


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


def test_shares_of_a_sweep_add_up() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4)).eval()
    x = torch.rand(6, 3, 8, 8)
    y = net(x).argmax(dim=1)
    found = Subjects("random images", {"net": net}, TensorSplit(x, y), x, y, batch=6)
    kinds = shares(net, found, [Fraction(1, 255), Fraction(1, 2)])
    assert sum(kinds.values()) == pytest.approx(1)
    assert min(kinds.values()) > 0
