"""Seconds of a hardened epoch: the loop that people write around torchattacks, and the harness's learner, in turns."""

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from statistics import median
from typing import NamedTuple

import torch
import torchattacks
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.cli.console import show_table
from harness.models.layout import quick_layout
from harness.models.timm import Timm
from harness.storage.provenance import device_name
from harness.system.memory import reused_memory
from harness.training.inference_form import without_copying_activations
from harness.training.learner import Learner
from harness.training.processes import OneProcess
from harness.training.recipes.pgd import PGDTraining

SIDE, CLASSES, EXAMPLES, STEPS = 224, 15, 630, 3
BATCH = {"cpu": 32, "cuda": 128}
UPDATES = {"cpu": 2, "cuda": 10}
"""Of a turn, by kind of device."""
PRECISIONS = {"cpu": ("float32",), "cuda": ("float32", "bfloat16")}
"""Number formats of the harness's recipe, by kind of device."""
PLAIN = "torchattacks in a plain loop"


class Timing(NamedTuple):
    """Seconds of one update."""

    whole: float
    attack: float


Update = Callable[[Tensor, Tensor], float]
"""Learns from images (N, 3, H, W) and labels (N,); returns the seconds of its attack."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the counts of this part."""
    group = parser.add_argument_group("training")
    group.add_argument("--turns", type=int, default=2, help="turns of each way, of 2 updates on a CPU and 10 on a GPU")


def show_training(options: argparse.Namespace) -> None:
    """Measures and prints."""
    device: torch.device = options.device
    count, generator = BATCH[device.type], torch.Generator().manual_seed(0)
    x = torch.rand(count, 3, SIDE, SIDE, generator=generator).to(device)
    y = torch.randint(CLASSES, (count,), generator=generator).to(device)
    with ExitStack() as stack:
        ways = {PLAIN: _plain(device)}
        for precision in PRECISIONS[device.type]:
            ways[f"harness, {precision}"] = _ours(_recipe(count, precision=precision), x, stack)
        timings: dict[str, list[Timing]] = {name: [] for name in ways}
        for _ in range(options.turns):
            for name, update in ways.items():
                with nullcontext() if name == PLAIN else reused_memory():  # as around a whole training
                    timings[name] += _timed(update, x, y)
    title = f"Adversarial training, PGD-{STEPS}: efficientnet_b0 at {SIDE}x{SIDE}, batches of {count}, {device_name(device)}"
    columns = ["way", "seconds an update (median)", f"seconds an epoch of {EXAMPLES} images", "times faster", "in the attack"]
    show_table(title, columns, _rows(timings, count))


def _rows(timings: dict[str, list[Timing]], count: int) -> list[list[str]]:
    first, rows = median(timing.whole for timing in timings[PLAIN]), []
    for name, taken in timings.items():
        whole = median(timing.whole for timing in taken)
        share = median(timing.attack / timing.whole for timing in taken)
        rows.append([name, f"{whole:.3f}", f"{whole * EXAMPLES / count:.1f}", f"{first / whole:.2f}", f"{100 * share:.0f} %"])
    return rows


def _recipe(count: int, **fields: object) -> PGDTraining:
    return PGDTraining.model_validate({"eps": "4/255", "steps": STEPS, "batch_size": count, **fields})


def _timed(update: Update, x: Tensor, y: Tensor) -> list[Timing]:
    """Returns the seconds of some updates, after one that warms up."""
    timings = []
    for _ in range(1 + UPDATES[x.device.type]):
        started = _now(x.device)
        attack = update(x, y)
        timings.append(Timing(_now(x.device) - started, attack))
    return timings[1:]


def _now(device: torch.device) -> float:
    """Returns the time at which all work given to the device so far is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _network(device: torch.device) -> nn.Module:
    return Timm(arch="efficientnet_b0").build([str(k) for k in range(CLASSES)], resolution=SIDE, seed=0).to(device)


def _plain(device: torch.device) -> Update:
    """Contiguous tensors, torchattacks' PGD on the network that is trained, torch's AdamW."""
    network, recipe = _network(device).train(), _recipe(BATCH[device.type])
    eps = float(recipe.eps)
    attack = torchattacks.PGD(network, eps=eps, alpha=2.5 * eps / STEPS, steps=STEPS)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.optimiser.learning_rate)

    def update(x: Tensor, y: Tensor) -> float:
        started = _now(device)
        x_adv = attack(x, y)
        seconds = _now(device) - started
        optimiser.zero_grad()
        cross_entropy(network(x_adv), y).backward()
        optimiser.step()
        return seconds

    return update


def _ours(recipe: PGDTraining, x: Tensor, stack: ExitStack) -> Update:
    """What `harness.training.loop.train` does with a batch."""
    layout = quick_layout(x.device, recipe.precision)
    network = _network(x.device).to(memory_format=layout)
    stack.enter_context(without_copying_activations(network))
    example = x.contiguous(memory_format=layout)
    learner = Learner(network, recipe, total=10**6, processes=OneProcess(x.device), example=example, micro_batch=len(x))
    generator = torch.Generator(x.device).manual_seed(0)

    def update(x: Tensor, y: Tensor) -> float:
        return learner.update(x.contiguous(memory_format=layout), y, epoch=1, generator=generator).attack_seconds

    return update
