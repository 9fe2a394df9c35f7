"""Compiled networks: torch.compile where it works; else the plain network, and a warning with the reason."""

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.network import Network
from harness.models.padding import filled_up, halvings
from harness.system.out_of_memory import is_out_of_memory
from harness.system.seeds import global_seed

logger = logging.getLogger(__name__)


def compiled(network: nn.Module, example: Tensor, **options: Any) -> Network:
    """Returns a network compiled and tried in its present mode; the network itself where compiling or the trial fails.

    Args:
        network: The network; the trial leaves its buffers, gradients and modes as they were.
        example: Images (N, 3, H, W) of the shape that it will see.
        options: Arguments of torch.compile.
    """
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        candidate = torch.compile(network, **options)
        with global_seed(0):
            _trial(candidate, network, example)
    except Exception as error:  # compilers raise errors of many types, and the plain network works without them
        log_off(error)
        return network
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
    return candidate


def log_off(error: Exception) -> None:
    """Logs that torch.compile is not used from now on, with the first line of the reason."""
    first = (str(error).strip().splitlines() or ["no message"])[0]
    logger.warning("torch.compile is off, as it fails here: %s: %.200s", type(error).__name__, first)


def _trial(candidate: Network, network: nn.Module, example: Tensor) -> None:
    """Runs one forward and one backward pass: to the parameters, or to the images where all parameters are frozen."""
    weights: list[Tensor] = [weight for weight in network.parameters() if weight.requires_grad]
    x = example.detach().requires_grad_(not weights)
    torch.autograd.grad(candidate(x).float().sum(), weights or [x], allow_unused=True)


def _every_call_compiled() -> AbstractContextManager[None]:
    """Returns a context in which a network that has been compiled too often raises an error.

    Without it the compiler runs such a network uncompiled from then on, without a message.
    """
    return torch._dynamo.config.patch(fail_on_cache_limit_hit=True)


class Padded:
    """A compiled network that gets batches of three sizes only: the largest one, its half and its quarter.

    The first batch of a size compiles it, forward, and backward where a gradient is needed. Copies of its first image fill up
    a smaller batch. If the compiler fails later, the plain network computes from then on.

    Args:
        network: The compiled network.
        plain: The same network, not compiled.
        largest: Images of a full batch; a larger batch raises all three sizes.
    """

    def __init__(self, network: Network, plain: Network, *, largest: int = 1) -> None:
        """See the class."""
        self.network, self.plain, self.largest = network, plain, largest
        self.works = True
        self._tried: set[int] = set()

    def __call__(self, x: Tensor) -> Tensor:
        """Returns logits (n, K) for images (n, C, H, W)."""
        if not self.works:
            return self.plain(x)
        self.largest = max(self.largest, len(x))
        filled = filled_up(x, halvings(self.largest))
        try:
            with _every_call_compiled():
                self._try_backward(filled)
                return self.network(filled)[: len(x)]
        except Exception as error:  # see `compiled`; a fault of the images or the network raises its error again here
            if is_out_of_memory(error):
                raise
            logits = self.plain(x)
            log_off(error)
            self.works = False
            return logits

    def _try_backward(self, x: Tensor) -> None:
        """Runs one backward pass at a new size: its first run compiles it, and an attack would end where that fails."""
        if x.requires_grad and torch.is_grad_enabled() and len(x) not in self._tried:
            self._tried.add(len(x))
            trial = x.detach().requires_grad_()
            torch.autograd.grad(self.network(trial).float().sum(), trial, allow_unused=True)
