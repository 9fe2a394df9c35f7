"""Seconds of a hardened epoch: the loop that people write around torchattacks, and the harness's learner, in turns."""

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

import torch
import torchattacks
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.console import show_table
from harness.memory import reused_memory
from harness.models.timm import Timm
from harness.training.learner import Learner
from harness.training.pgd import PGDTraining
from harness.training.processes import OneProcess
from harness.training.twin import without_copying_activations

SIDE, CLASSES, EXAMPLES = 224, 15, 630
UPDATES = 2
RECIPE = PGDTraining(eps="4/255", steps=3, batch_size=32)
Update = Callable[[Tensor, Tensor], None]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the counts of this part."""
    group = parser.add_argument_group("training")
    group.add_argument("--turns", type=int, default=2, help=f"turns of {UPDATES} updates for each way")


def show_training(options: argparse.Namespace) -> None:
    """Measures and prints."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(RECIPE.batch_size, 3, SIDE, SIDE, generator=generator)
    y = torch.randint(CLASSES, (RECIPE.batch_size,), generator=generator)
    with ExitStack() as stack:
        plain, ours = _plain(), _ours(x, stack)
        seconds: dict[str, list[float]] = {"torchattacks in a plain loop": [], "harness": []}
        for _ in range(options.turns):
            seconds["torchattacks in a plain loop"] += _timed(plain, x, y)
            with reused_memory():  # as around a whole training
                seconds["harness"] += _timed(ours, x, y)
    first = median(seconds["torchattacks in a plain loop"])
    rows = [
        [name, f"{median(taken):.2f}", f"{median(taken) * EXAMPLES / len(y):.0f}", f"{first / median(taken):.2f}"]
        for name, taken in seconds.items()
    ]
    title = f"Adversarial training, PGD-{RECIPE.steps}: efficientnet_b0 at {SIDE}x{SIDE}, batches of {len(y)}"
    show_table(title, ["way", "seconds an update (median)", f"seconds an epoch of {EXAMPLES} images", "times faster"], rows)


def _timed(update: Update, x: Tensor, y: Tensor) -> list[float]:
    """Returns the seconds of some updates, after one that warms up."""
    seconds = []
    for _ in range(1 + UPDATES):
        started = time.perf_counter()
        update(x, y)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def _network() -> nn.Module:
    return Timm(arch="efficientnet_b0").build([str(k) for k in range(CLASSES)], resolution=SIDE, seed=0)


def _plain() -> Update:
    """Contiguous tensors, torchattacks' PGD on the network that is trained, torch's AdamW."""
    network = _network().train()
    eps = float(RECIPE.eps)
    attack = torchattacks.PGD(network, eps=eps, alpha=2.5 * eps / RECIPE.steps, steps=RECIPE.steps)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RECIPE.optimiser.learning_rate)

    def update(x: Tensor, y: Tensor) -> None:
        x_adv = attack(x, y)
        optimiser.zero_grad()
        cross_entropy(network(x_adv), y).backward()
        optimiser.step()

    return update


def _ours(x: Tensor, stack: ExitStack) -> Update:
    """What `harness.training.loop.train` does with a batch."""
    network = _network().to(memory_format=torch.channels_last)
    stack.enter_context(without_copying_activations(network))
    example = x.contiguous(memory_format=torch.channels_last)
    learner = Learner(network, RECIPE, total=10**6, processes=OneProcess(torch.device("cpu")), example=example)
    generator = torch.Generator().manual_seed(0)

    def update(x: Tensor, y: Tensor) -> None:
        learner.update(x.contiguous(memory_format=torch.channels_last), y, epoch=1, generator=generator)

    return update
