"""Images a second, forward and backward to the image: the bare network in every form, and the harness in a whole attack."""

import argparse
import copy
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.attacks.base import ATTACKS
from harness.console import show_table, stderr
from harness.evaluation.batches import batch_size_for
from harness.evaluation.protocol import sweep
from harness.memory import reused_memory
from harness.models.inference import Inference
from harness.models.network import Network
from harness.precision import full_float32
from harness.threat import ThreatModel
from tests.bench.subjects import Subjects, subjects

EPS = Fraction(1, 2 * 255)
"""So little that most images of the hardened network withstand it, and every step is taken on all of them."""
STEPS = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the counts of this part."""
    group = parser.add_argument_group("passes")
    group.add_argument("--passes", type=int, default=5, help="passes of each bare network, after two that warm up")
    group.add_argument("--compile", action="store_true", help="measure compiled networks too, which takes minutes first")


def show_passes(options: argparse.Namespace) -> None:
    """Measures and prints."""
    found = subjects(options.count, options.device, options.suite)
    network = found.networks["pgd"]
    size = min(len(found.y), batch_size_for(network, found.split, options.device))
    rows = list(_told("bare", _bare(network, found.x[:size], found.y[:size], options)))
    best = max(rate for name, rate in rows if "TF32" not in name and "bfloat16" not in name)
    rows += _told("harness", _harness(network, found, options))
    shown = [[name, f"{rate:.0f}", f"{100 * rate / best:.0f} %"] for name, rate in rows]
    show_table(
        f"Forward and backward in batches of {size}: {found.title}", ["way", "images/s", "of the best bare float32"], shown
    )


def _told(whose: str, rates: Iterator[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    """Says each rate once it is measured, as the table waits for the last of them."""
    for name, rate in rates:
        stderr.print(f"{whose}, {name}: {rate:.0f} images/s")
        yield f"{whose}, {name}", rate


def _bare(network: nn.Module, x: Tensor, y: Tensor, options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    network = copy.deepcopy(network).eval().requires_grad_(False)
    plain: AbstractContextManager[object] = nullcontext()
    low = torch.autocast(x.device.type, dtype=torch.bfloat16)
    last = x.contiguous(memory_format=torch.channels_last)
    with full_float32(), reused_memory():  # as around a sweep
        yield "float32", _rate(network, x, y, plain, options.passes)
        network = network.to(memory_format=torch.channels_last)
        yield "float32, channels last", _rate(network, last, y, plain, options.passes)
        if options.compile:
            yield "float32, channels last, compiled", _rate(torch.compile(network), last, y, plain, options.passes)
    if x.device.type == "cuda":  # torch lets convolutions round to TF32 by itself
        yield "TF32 in convolutions, channels last", _rate(network, last, y, plain, options.passes)
    yield "bfloat16, channels last", _rate(network, last, y, low, options.passes)
    if options.compile:
        yield "bfloat16, channels last, compiled", _rate(torch.compile(network), last, y, low, options.passes)


def _rate(network: Network, x: Tensor, y: Tensor, precision: AbstractContextManager[object], passes: int) -> float:
    seconds = 0.0
    for number in range(passes + 2):
        started = time.perf_counter()
        image = x.detach().requires_grad_()
        with precision:
            loss = cross_entropy(network(image).float(), y, reduction="sum")
        torch.autograd.grad(loss, image)[0].sum().item()  # waits for the device
        seconds += time.perf_counter() - started if number >= 2 else 0.0
    return passes * len(x) / seconds


def _harness(network: nn.Module, found: Subjects, options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Backward passes over the seconds of a whole attack: judging and watching included, reading images not."""
    for compiles in (False, True) if options.compile else (False,):
        for precision in ("float32", "bfloat16"):
            outcome = sweep(
                network,
                found.split,
                ATTACKS.parse({"name": "pgd", "steps": STEPS}),
                threat_models=[ThreatModel(eps=EPS)],
                device=found.device,
                inference=Inference(compile=compiles, precision=precision),
            )
            condition = outcome.conditions[0]
            yield f"{precision}{', compiled' if compiles else ''}", condition.backwards / condition.seconds
