"""How much of a sweep's time the harness takes for itself: all that is neither a forward nor a backward pass."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

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
    """Passes calls to a network and adds up the time inside its forward and backward passes."""

    def __init__(self, network: nn.Module, clock: Clock) -> None:
        super().__init__()
        self.network, self.clock = network, clock

    def forward(self, x: Tensor) -> Tensor:
        """Times the forward pass, and, by hooks on logits and image, the backward pass between them."""
        differentiated = x.requires_grad
        if differentiated:
            x = x.view_as(x)
            x.register_hook(self.clock.end)
        self.clock.begin()
        logits = self.network(x)
        self.clock.end()
        if differentiated:
            logits.register_hook(self.clock.begin)
        return logits


def own_share(network: nn.Module, subjects: Subjects, budgets: Sequence[Fraction]) -> float:
    """Returns the share of a sweep's wall time that passes outside forward and backward passes.

    The images are in memory, so that reading and decoding them is counted as neither.
    """
    clock = Clock()
    attack = ATTACKS.parse({"name": "pgd", "steps": 10})
    split = TensorSplit(subjects.x, subjects.y)
    with reused_memory():  # as `harness run` and `harness.evaluate` hold it, over all steps
        started = time.perf_counter()
        sweep(Stopwatch(network, clock).eval(), split, attack, threat_models=[ThreatModel(eps=eps) for eps in budgets])
        return 1 - clock.seconds / (time.perf_counter() - started)
