"""Progress from inside an attack, with a slow network under a clock that only that network moves."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.frame import run_attack
from harness.attacks.passes import BACKWARD, Passes
from harness.attacks.results import AttackInput
from harness.cli.console import PLAIN_INTERVAL, PlainProgress
from harness.datasets.tensors import TensorSplit
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.system.progress import Advance
from tests.attacks.nets import attack_of, threat

CLASSES, IMAGES = 5, 6
PASS = 0.3
"""Seconds of a forward pass of any batch, on the clock of these tests; a backward pass takes `BACKWARD` times as long."""
FEW = {"strong": {"steps": 15, "fab_steps": 10, "queries": 40}, "square": {"queries": 60}}
LINE = re.compile(
    r"(?P<title>.+): (?P<done>\d+)/(?P<total>\d+) (?P<unit>[a-z x]+), (?P<seconds>\d+) s, eta (?P<eta>\d+) s  .*passes"
)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def __deepcopy__(self, memo: object) -> "Clock":
        return self  # networks are copied, time is not

    def move(self, seconds: float) -> None:
        self.now += seconds


class Slow(nn.Module):
    """A network that no attack leads astray, each pass of which takes a while."""

    def __init__(self, clock: Clock, *, head_start: float = 5.0) -> None:
        super().__init__()
        self.clock = clock
        self.weight = nn.Parameter(torch.randn(CLASSES, 3 * 8 * 8, generator=torch.Generator().manual_seed(0)) * 1e-3)
        self.register_buffer("bias", torch.eye(CLASSES)[0] * head_start)

    def forward(self, x: Tensor) -> Tensor:
        self.clock.move(PASS)
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(lambda gradient: self.clock.move(BACKWARD * PASS))
        return x.flatten(1) @ self.weight.T + self.bias


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def split() -> TensorSplit:
    x = torch.rand(IMAGES, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return TensorSplit(x, torch.zeros(IMAGES, dtype=torch.long))


def quick(name: str) -> Attack:
    steps = {"steps": 20} if "steps" in ATTACKS.get(name).model_fields else {}
    return attack_of(name, **{**steps, **FEW.get(name, {})})


def lines_of(attack: Attack, split: TensorSplit, clock: Clock, capsys: pytest.CaptureFixture[str]) -> list[re.Match[str]]:
    """Returns the lines that a sweep over two budgets shows while it runs."""
    norm = "Linf" if attack.supports(threat("1/255")) is None else "L2"
    sweep(
        Slow(clock),
        split,
        SweepSettings(attack, (threat("1/255", norm), threat("2/255", norm))),
        probes=0,
        progress=PlainProgress(),
    )
    *lines, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"{attack.name}: done in ")
    found = [LINE.fullmatch(line) or pytest.fail(f"no ETA in {line!r}") for line in lines]
    return [*found]


@pytest.mark.parametrize("name", ["strong", "fab", "square", "apgd-t", "deepfool", "pgd", "art-autopgd"])
def test_attack_shows_a_line_with_an_honest_eta_at_least_each_ten_seconds(
    name: str, split: TensorSplit, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    started = clock.now
    lines = lines_of(quick(name), split, clock, capsys)
    took = clock.now - started
    seconds = [0.0, *(float(line["seconds"]) for line in lines), took]
    assert max(later - earlier for earlier, later in pairwise(seconds)) <= 10
    assert {(line["total"], line["unit"]) for line in lines} == {(str(2 * IMAGES), "images x budgets")}
    for line in lines:  # at first what comes before the attack counts as if it went on
        assert float(line["seconds"]) < took / 4 or float(line["seconds"]) + float(line["eta"]) == pytest.approx(took, rel=0.3)
    assert float(lines[-1]["eta"]) <= 2 * PLAIN_INTERVAL


@pytest.mark.parametrize("head_start", [5.0, 0.001])  # no example becomes adversarial, or some do
@pytest.mark.parametrize("name", ["strong", "fab", "pgd"])
def test_work_adds_up_to_the_total_exactly(name: str, head_start: float, split: TensorSplit, clock: Clock) -> None:
    amounts: list[float] = []

    class Adding:
        @contextmanager
        def task(self, title: str, total: float, unit: str = "") -> Iterator[Advance]:
            yield lambda amount, note: amounts.append(amount)

    settings = SweepSettings(quick(name), (threat("1/255"), threat("2/255")))
    sweep(Slow(clock, head_start=head_start), split, settings, batch_size=4, progress=Adding())
    assert sum(amounts) == 2 * IMAGES
    assert min(amounts) >= 0
    reached = [sum(amounts[:number]) for number in range(len(amounts) + 1)]
    assert max(reached) == 2 * IMAGES
    assert head_start < 1 or any(0 < amount < 1 for amount in amounts)


class Unannounced(Attack):
    """An attack of a user that says nothing of its passes."""

    name: str = "unannounced"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: object, generator: torch.Generator) -> Tensor:
        for _ in range(30):
            model(x)
        return x


def test_attack_that_says_nothing_of_its_passes_shows_how_many_it_made(
    split: TensorSplit, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(Slow(clock), split, SweepSettings(Unannounced(), (threat("1/255"),)), progress=PlainProgress())
    first = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(r"unannounced: 0/6 images, \d+ s, eta unknown  eps 1/255, batch of 6 images: \d+ passes", first)


def test_attack_with_twice_the_steps_has_an_eta_of_its_own(
    split: TensorSplit, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(Slow(clock), split, SweepSettings(attack_of("pgd", steps=60), (threat("1/255"),)), progress=PlainProgress())
    doubled = [line for line in capsys.readouterr().err.splitlines() if "twice the steps" in line]
    assert len(doubled) > 2
    assert all(re.search(r"pgd: 6/6 images, \d+ s  the attack again .* passes, eta \d+ s$", line) for line in doubled)


def test_clean_images_are_called_so_only_where_they_are_clean(
    split: TensorSplit, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_clean(Slow(clock), split, batch_size=1, probes=0, progress=PlainProgress(), title="fog 3")
    assert capsys.readouterr().err.startswith("fog 3: done in ")


class Counting:
    """A listener that counts passes."""

    def __init__(self) -> None:
        self.forwards = self.differentiated = 0.0

    def passed(self, asked: int, active: int, *, differentiated: bool) -> None:
        self.forwards += asked / active
        self.differentiated += asked / active * differentiated


ENDS_EARLY = {
    "cw": 0.3,  # the library's ends where its loss no longer falls
    "hop_skip_jump": 0.02,  # where none of 100 images of noise is adversarial it has no start
}
"""Attacks that make less than almost all passes on a network that resists, with the least share."""


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("name", ATTACKS.names())
def test_attack_makes_the_passes_that_it_announces_on_a_network_that_resists(
    name: str, norm: str, split: TensorSplit, clock: Clock
) -> None:
    attack, threat_model, counting = quick(name), threat("1/255", norm), Counting()
    if attack.supports(threat_model) is not None:
        pytest.skip("has no such form")
    inputs = AttackInput(
        Slow(clock).eval().requires_grad_(False), split.images, torch.from_numpy(split.labels), listener=counting
    )
    run_attack(attack, inputs, threat_model=threat_model, seed=0)
    most = attack.passes(CLASSES)
    assert isinstance(most, Passes)
    least = ENDS_EARLY.get(name, 0.85)
    assert least * most.forwards <= round(counting.forwards, 6) <= most.forwards
    assert least * most.differentiated <= round(counting.differentiated, 6) <= most.differentiated
