"""Images a second, forward and backward to the image: the bare network in every form, and the harness in a whole attack."""

import argparse
import copy
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.attacks.base import ATTACKS
from harness.cli.console import show_table, stderr
from harness.evaluation.batches import batch_size_for
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.models.folding import fold_batchnorm
from harness.models.layout import Inference, quick_layout
from harness.models.network import Network
from harness.records import ConditionResult
from harness.system.memory import reused_memory
from harness.system.precision import full_float32
from harness.threat import ThreatModel
from tests.bench.workload import Workload, workload

EPS = Fraction(1, 2 * 255)
"""So little that most images of the hardened network withstand it, and every step is taken on all of them."""
STEPS = 20
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


class Rate(NamedTuple):
    """How fast a way is."""

    images: float
    """Images a second, once the size of the batch is known."""
    first: float | None = None
    """Seconds of the first pass, in which a GPU plans its convolutions; none for a whole attack."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the counts of this part."""
    group = parser.add_argument_group("passes")
    group.add_argument("--passes", type=int, default=5, help="passes of each bare network, after two that warm up")
    group.add_argument("--compile", action="store_true", help="measure compiled networks too, which takes minutes first")


def show_passes(options: argparse.Namespace) -> None:
    """Measures and prints."""
    found = workload(options.count, options.device, options.suite)
    network = found.networks["pgd"]
    size = min(len(found.y), batch_size_for(network, found.split, options.device))
    rates = dict(_told("bare", _bare(network, found.x[:size], found.y[:size], options)))
    best = max(rate.images for name, rate in rates.items() if "full float32" in name)
    rates |= _told("harness", _harness(network, found, options))
    rows = [
        [name, f"{rate.images:.0f}", f"{100 * rate.images / best:.0f} %", "" if rate.first is None else f"{rate.first:.2f}"]
        for name, rate in rates.items()
    ]
    columns = ["way", "images/s", "of the best bare one in full float32", "first pass, s"]
    show_table(f"Forward and backward in batches of {size}: {found.title}", columns, rows)


def _told(whose: str, rates: Iterator[tuple[str, Rate]]) -> Iterator[tuple[str, Rate]]:
    """Says each rate once it is measured, as the table waits for the last of them."""
    for name, rate in rates:
        stderr.print(f"{whose}, {name}: {rate.images:.0f} images/s")
        yield f"{whose}, {name}", rate


def _bare(network: nn.Module, x: Tensor, y: Tensor, options: argparse.Namespace) -> Iterator[tuple[str, Rate]]:
    """Every form in every layout and number format."""
    as_given = copy.deepcopy(network).eval().requires_grad_(False)
    folded = copy.deepcopy(as_given)
    fold_batchnorm(folded, x[:2])
    for form, bare in {"as given": as_given, "folded": folded}.items():
        for layout, memory_format in LAYOUTS.items():
            placed, images = bare.to(memory_format=memory_format), x.contiguous(memory_format=memory_format)
            for precision, block in _precisions(x.device).items():
                with block, reused_memory():  # as around a sweep
                    yield f"{form}, {layout}, {precision}", _rate(placed, images, y, options.passes)
    if options.compile:
        memory_format = quick_layout(x.device, "float32")
        quick = torch.compile(folded.to(memory_format=memory_format))
        with full_float32(), reused_memory():
            rate = _rate(quick, x.contiguous(memory_format=memory_format), y, options.passes)
        yield "folded, compiled, full float32", rate


def _precisions(device: torch.device) -> dict[str, AbstractContextManager[object]]:
    """Returns what a device computes in, by name: on GPUs torch lets convolutions round to TF32 by itself."""
    rounded: dict[str, AbstractContextManager[object]] = {"TF32": nullcontext()} if device.type == "cuda" else {}
    return {"full float32": full_float32(), **rounded, "bfloat16": torch.autocast(device.type, dtype=torch.bfloat16)}


def _rate(network: Network, x: Tensor, y: Tensor, passes: int) -> Rate:
    seconds = []
    for _ in range(passes + 2):
        started = time.perf_counter()
        image = x.detach().requires_grad_()
        loss = cross_entropy(network(image).float(), y, reduction="sum")
        torch.autograd.grad(loss, image)[0].sum().item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return Rate(passes * len(x) / sum(seconds[2:]), seconds[0])


def _harness(network: nn.Module, found: Workload, options: argparse.Namespace) -> Iterator[tuple[str, Rate]]:
    """Backward passes over the seconds of a whole attack: judging and watching included, reading images not."""

    def attacked(inference: Inference) -> ConditionResult:
        outcome = sweep(
            network,
            found.split,
            SweepSettings(ATTACKS.parse({"name": "pgd", "steps": STEPS}), (ThreatModel(eps=EPS),), inference=inference),
            device=found.device,
            probes=0,  # they are few images, which a GPU is slow with
        )
        return outcome.conditions[0]

    for compiles in (False, True) if options.compile else (False,):
        for precision in ("float32", "bfloat16"):
            inference = Inference(compile=compiles, precision=precision)
            if found.device.type == "cuda":
                attacked(inference)  # plans every convolution
            condition = attacked(inference)
            yield f"{precision}{', compiled' if compiles else ''}", Rate(condition.backwards / condition.seconds)
