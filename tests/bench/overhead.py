"""How much of a sweep's time the harness takes for itself: all that is neither a model pass nor the attack's arithmetic.

A forward pass is the time inside the network, in whatever form, from images to logits: of the attack, of the reference model,
of clean images, and of the two images on which forms of the network are compared and its layers are traced. A
backward pass is the time inside `torch.autograd.grad`, and that of freeing the graph, which a bare loop takes as
well; less what the harness does in there: from when the gradient has reached the network's images until it has
reached the attack's. The attack's arithmetic is what PGD itself does between passes: its random start, the value of
its loss, its steps. All else is the harness's own: watching, gathering and judging of iterates, leaving out what is
broken, copying and folding the network, changes of an image's layout, random states, the ledger.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor, nn

from harness.attacks.base import ATTACKS
from harness.attacks.collectors import FirstAdversarial
from harness.attacks.torchattacks import inplace
from harness.attacks.torchattacks.stepwise import PGD
from harness.datasets.tensors import TensorSplit
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.system.memory import quick_garbage_collection, reused_memory
from harness.threat import ThreatModel
from tests.bench.workload import Workload


class Clock:
    """Seconds inside passes, inside the attack's arithmetic and in the rest; what is entered last is charged.

    Copies of a network share it.
    """

    def __init__(self) -> None:
        self.seconds = {"pass": 0.0, "attack": 0.0, "own": 0.0}
        self._entered = ["own"]
        self._since = time.perf_counter()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def enter(self, kind: str) -> None:
        """Charges the time from now on to a kind."""
        self._charge()
        self._entered.append(kind)

    def leave(self, *_: object) -> None:
        """Charges the time from now on to the kind that was entered before."""
        self._charge()
        self._entered.pop()

    def shares(self) -> dict[str, float]:
        """Returns the share of each kind in all time so far.

        Raises:
            RuntimeError: if a kind was not left.
        """
        self._charge()
        if self._entered != ["own"]:
            raise RuntimeError(f"clock: expected every kind to be left, still inside {self._entered[1:]}")
        return {kind: seconds / sum(self.seconds.values()) for kind, seconds in self.seconds.items()}

    @contextmanager
    def charging(self, owner: object, name: str, kind: str) -> Iterator[None]:
        """Charges the time inside a method of a class, over all its objects, or inside a function of a module, to a kind."""
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            self.enter(kind)
            try:
                return method(*arguments, **named)
            finally:
                self.leave()

        with patch.object(owner, name, timed):
            yield

    def _charge(self) -> None:
        now = time.perf_counter()
        self.seconds[self._entered[-1]] += now - self._since
        self._since = now


class Stopwatch(nn.Module):
    """Passes calls to a network and times its forward passes; `timed_backward` times the backward ones."""

    def __init__(self, network: nn.Module, clock: Clock) -> None:
        super().__init__()
        self.network, self.clock = network, clock

    def forward(self, x: Tensor) -> Tensor:
        """Times the forward pass; its backward pass ends when the gradient has reached the images."""
        self.clock.enter("pass")
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(self.clock.leave)
        try:
            return self.network(x)
        finally:
            self.clock.leave()


@contextmanager
def timed_backward(clock: Clock) -> Iterator[None]:
    """Times `torch.autograd.grad`, less what happens between the network's images and the attack's, and frees the graph."""
    grad = torch.autograd.grad

    def timed(outputs: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:
        hook = inputs.register_hook(lambda _: clock.enter("pass"))
        clock.enter("own")  # what the pass falls back to when the gradient leaves the network
        clock.enter("pass")
        gradients = grad(outputs, inputs)
        outputs.detach_()
        clock.leave()
        clock.leave()
        hook.remove()
        return gradients

    with patch.object(torch.autograd, "grad", timed):
        yield


def shares(network: nn.Module, workload: Workload, budgets: Sequence[Fraction]) -> dict[str, float]:
    """Returns the shares of a sweep's wall time inside passes, in the attack's arithmetic, and in the harness's own work.

    The images are in memory, so that reading and decoding them is not counted; stacking them is the harness's own.
    """
    attack = ATTACKS.parse({"name": "pgd", "steps": 10})
    split = TensorSplit(workload.x, workload.y)
    with ExitStack() as timed:
        for memory in (quick_garbage_collection(), reused_memory()):  # as around all steps of a run, and of `harness.evaluate`
            timed.enter_context(memory)
        clock = Clock()
        timed.enter_context(timed_backward(clock))
        timed.enter_context(clock.charging(PGD, "perturb", "attack"))
        for method in ("forward", "active", "completed"):
            timed.enter_context(clock.charging(FirstAdversarial, method, "own"))
        timed.enter_context(clock.charging(inplace, "_only", "own"))
        sweep(Stopwatch(network, clock).eval(), split, SweepSettings(attack, tuple(ThreatModel(eps=eps) for eps in budgets)))
        return clock.shares()
