"""AutoAttack standard by the original package, by torchattacks' composition and by the harness, and the audited ensemble."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torchattacks
from torch import Tensor, nn

from harness.attacks.base import ATTACKS
from harness.attacks.strong import STANDARD
from harness.cli.console import show_table, stderr
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.spec import parse_eps
from harness.threat import ThreatModel
from tests.bench.contenders import robust_share
from tests.bench.workload import Workload, other_workloads, small_workload, workload

PHOTOGRAPHS = 48
BUDGETS = {"digits": ("8/255", "16/255", "24/255"), "others": ("16/255",), "photographs": ("2/255", "4/255")}
"""Budgets of each group of networks where none is asked for."""
ORIGINAL = "pyautoattack standard"
ORIGINAL_BATCH = 250
"""Images of a batch of the original package, its default."""
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
"""Where Linux tells the peak of a process's memory, and where a 5 sets it back to what is in use."""


@dataclass(frozen=True)
class Outcome:
    """What a contender left, and its passes."""

    robust: float
    forwards: int
    backwards: int


Contender = Callable[[nn.Module, Workload, Fraction], Outcome]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this part."""
    group = parser.add_argument_group("strong")
    group.add_argument("--strong", type=int, default=32, help="test images for the strong attack on small networks")
    group.add_argument("--strong-on", nargs="*", default=["digits", "others"], choices=list(BUDGETS), help="groups of networks")
    group.add_argument("--strong-networks", nargs="*", help="labels of the networks to attack, by default all of each group")
    group.add_argument("--strong-eps", nargs="*", help="budgets, by default those of each group")
    group.add_argument("--strong-contenders", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS), help="in this order")


def show_strong(options: argparse.Namespace) -> None:
    """Measures and prints a table for each network and budget."""
    for group in options.strong_on:
        for found in _workloads(group, options):
            for label, network in found.networks.items():
                if options.strong_networks is None or label in options.strong_networks:
                    for eps in options.strong_eps or BUDGETS[group]:
                        show_table(*_compared(found, label, network, parse_eps(eps), options.strong_contenders))


def _workloads(group: str, options: argparse.Namespace) -> Iterator[Workload]:
    if group == "digits":
        yield small_workload(options.strong, options.device)
    elif group == "others":
        yield from other_workloads(options.strong, options.device)
    else:
        found = workload(PHOTOGRAPHS, options.device)
        yield Workload(found.title, {"pgd": found.networks["pgd"]}, found.split, found.x, found.y, found.batch)


def _compared(
    found: Workload, label: str, network: nn.Module, eps: Fraction, names: list[str]
) -> tuple[str, list[str], list[list[str]]]:
    on_cpu = found.device.type == "cpu"
    clock, rows, first = time.process_time if on_cpu else time.perf_counter, [], 0.0
    for name in names:
        if name == ORIGINAL and find_spec("pyautoattack") is None:
            stderr.print(f"strong: {name} is left out, as the package pyautoattack is not installed")
            continue
        torch.manual_seed(0)
        memory, started = _reset_peak(), clock()
        outcome = CONTENDERS[name](network, found, eps)
        seconds, peak = clock() - started, _memory("VmHWM") - memory
        first = first or seconds
        passes = [f"{count / len(found.y):.0f}" for count in (outcome.forwards, outcome.backwards)]
        rows.append([name, f"{seconds:.1f}", f"{seconds / first:.2f}", f"{100 * outcome.robust:.1f}", *passes, f"{peak:.0f}"])
        stderr.print(f"strong, {label} at {eps}: {', '.join(rows[-1])}")
    unit = "processor seconds" if on_cpu else "seconds"
    columns = ["attack", unit, f"of {rows[0][0] if rows else 'the first'}", "robust %", "forwards an example"]
    return f"{label} at {eps}: {found.title}", [*columns, "backwards an example", "peak memory above the start, MiB"], rows


def _reset_peak() -> float:
    """Forgets the peak of the memory, where the system can, and returns what is in use, MiB."""
    if PEAK_RESET.exists():
        PEAK_RESET.write_text("5")
    return _memory("VmRSS")


def _memory(field: str) -> float:
    """Returns a field of the process's status in MiB; NaN where the system has none."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), float("nan"))


class Counted(nn.Module):
    """A network that counts its passes x images."""

    def __init__(self, network: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.network, self.forwards, self.backwards = network, 0, 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W)."""
        self.forwards += len(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self.network(x)
        entry = x.view_as(x)
        entry.register_hook(self._count)
        return self.network(entry)

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def original(model: nn.Module, found: Workload, eps: Fraction) -> Outcome:
    """The package of AutoAttack's authors, as it comes; one that fails is an error."""
    from pyautoattack import AutoAttack  # optional

    counted = Counted(model)
    attack = AutoAttack(counted, norm="Linf", eps=float(eps), version="standard", seed=0, device=found.device)
    x_adv, _ = attack.run_standard_evaluation(found.x, found.y, batch_size=ORIGINAL_BATCH)
    with torch.no_grad():
        robust = float((model(x_adv).argmax(dim=1) == found.y).float().mean())
    return Outcome(robust, counted.forwards, counted.backwards)


def multi_attack(model: nn.Module, found: Workload, eps: Fraction) -> Outcome:
    """torchattacks' MultiAttack over APGD-CE, APGD-T, FAB-T and Square, with the original's budgets."""
    counted, size, classes = Counted(model), float(eps), int(found.y.max()) + 1
    parts = [
        torchattacks.APGD(counted, eps=size, steps=STANDARD["steps"], n_restarts=1),
        torchattacks.APGDT(counted, eps=size, steps=STANDARD["steps"], n_restarts=1, n_classes=classes),
        torchattacks.FAB(counted, eps=size, steps=STANDARD["fab_steps"], n_restarts=1, n_classes=classes, multi_targeted=True),
        torchattacks.Square(counted, eps=size, n_queries=STANDARD["queries"], n_restarts=1),
    ]
    robust = robust_share(model, found, torchattacks.MultiAttack(parts))
    return Outcome(robust, counted.forwards, counted.backwards)


def by_harness(model: nn.Module, found: Workload, eps: Fraction, *, attack: str | Mapping[str, Any]) -> Outcome:
    """An attack as `harness run` uses it."""
    settings = SweepSettings(ATTACKS.parse(attack), (ThreatModel(eps=eps),))
    outcome = sweep(model, found.split, settings, device=found.device)
    correct, (condition,) = outcome.clean_logits.argmax(axis=1) == outcome.labels, outcome.conditions
    robust = float((correct & ~condition.is_adversarial).mean())
    return Outcome(robust, condition.evidence.forwards, condition.evidence.backwards)


CONTENDERS: dict[str, Contender] = {
    ORIGINAL: original,
    "torchattacks MultiAttack": multi_attack,
    "strong": partial(by_harness, attack="strong"),
    "audited, no audit": partial(by_harness, attack={"name": "audited", "audit": 0}),
    "audited": partial(by_harness, attack={"name": "audited", "audit": 64}),
}
