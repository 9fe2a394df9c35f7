"""Stand-ins for torch.compile: one that fails, and one that traces without generating code, which would take minutes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.backends.debugging import aot_eager

from tests.attacks.nets import SIDE

COMPILE = torch.compile


def broken(*_: object, **__: object) -> object:
    """Fails at the first call, as a machine without a C++ compiler does."""

    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("no working C++ compiler\nwith many lines of detail")

    return fail


def tracing(sizes: list[int]) -> Callable[..., object]:
    """Returns a compiler that traces as torch.compile does, and notes how many images each graph that it makes is for."""

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> object:
        sizes.append(next(len(it) for it in inputs if isinstance(it, Tensor) and it.dim() == 4 and it.shape[-1] == SIDE))
        return aot_eager(graph, inputs)

    return lambda network, **options: COMPILE(network, backend=backend, **options)
