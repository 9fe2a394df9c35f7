"""How much of a sweep's time the harness takes for itself: all that is neither a forward nor a backward pass.

A forward pass is the time inside the network, in whatever form, from images to logits: of the attack, of the judge, of
clean images, and of the two images on which forms of the network are compared. A backward pass is the time inside
`torch.autograd.grad`, in which the engine also frees the graph, as it would in a bare loop, less what the harness does
there: from when the gradient has reached the network's images until it has reached the attack's. All else is the
harness's own: the attack's arithmetic, watching, gathering and judging of iterates, copying and folding the network,
changes of an image's layout, random states, the ledger.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor, nn

from harness.attacks.base import ATTACKS
from harness.datasets.tensors import TensorSplit
from harness.evaluation.protocol import sweep
from harness.memory import reused_memory
from harness.threat import ThreatModel
from tests.bench.subjects import Subjects


@dataclass
class Clock:
    """Seconds inside passes; copies of a network share it."""

    seconds: float = 0.0
    began: float = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def begin(self, *_: object) -> None:
        """Notes the time."""
        self.began = time.perf_counter()

    def end(self, *_: object) -> None:
        """Adds the time since `begin`."""
        self.seconds += time.perf_counter() - self.began


class Stopwatch(nn.Module):
    """Passes calls to a network and adds up the time inside its forward passes; `timed_backward` adds the backward ones."""

    def __init__(self, network: nn.Module, clock: Clock) -> None:
        super().__init__()
        self.network, self.clock = network, clock

    def forward(self, x: Tensor) -> Tensor:
        """Times the forward pass; its backward pass ends when the gradient has reached the images."""
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(self.clock.end)
        self.clock.begin()
        logits = self.network(x)
        self.clock.end()
        return logits


@contextmanager
def timed_backward(clock: Clock) -> Iterator[None]:
    """Adds the time inside `torch.autograd.grad`, less that between the network's images and the attack's."""
    grad = torch.autograd.grad

    def timed(outputs: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:
        hook = inputs.register_hook(clock.begin)
        clock.begin()
        gradients = grad(outputs, inputs)
        clock.end()
        hook.remove()
        return gradients

    with patch.object(torch.autograd, "grad", timed):
        yield


def own_share(network: nn.Module, subjects: Subjects, budgets: Sequence[Fraction]) -> float:
    """Returns the share of a sweep's wall time that passes outside forward and backward passes.

    The images are in memory, so that reading and decoding them is counted as neither.
    """
    clock = Clock()
    attack = ATTACKS.parse({"name": "pgd", "steps": 10})
    split = TensorSplit(subjects.x, subjects.y)
    with reused_memory(), timed_backward(clock):  # as `harness run` and `harness.evaluate` hold it, over all steps
        started = time.perf_counter()
        sweep(Stopwatch(network, clock).eval(), split, attack, threat_models=[ThreatModel(eps=eps) for eps in budgets])
        return 1 - clock.seconds / (time.perf_counter() - started)
