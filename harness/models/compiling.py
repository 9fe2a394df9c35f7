"""torch.compile where it works, the plain network and one line of explanation where it does not."""

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.network import Network
from harness.models.padding import filled_up, halvings
from harness.system.seeds import global_seed

logger = logging.getLogger(__name__)


def compiled(network: nn.Module, example: Tensor, **options: Any) -> Network:
    """Returns a compiled form of a network after one trial in its present mode; the network itself where that fails.

    Args:
        network: The network; it comes out of the trial with its buffers, gradients and modes as they were.
        example: Images (N, 3, H, W) of the shape that it will see.
        options: For torch.compile.
    """
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        candidate = torch.compile(network, **options)
        with global_seed(0):
            _trial(candidate, network, example)
    except Exception as error:  # compilers fail in many types, and none of them is a reason to stop
        say_off(error)
        return network
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
    return candidate


def say_off(error: Exception) -> None:
    """Says in one line that torch.compile is given up, and why."""
    first = (str(error).strip().splitlines() or ["no message"])[0]
    logger.warning("torch.compile is off, as it fails here: %s: %.200s", type(error).__name__, first)


def _trial(candidate: Network, network: nn.Module, example: Tensor) -> None:
    """Makes one forward and one backward pass, to the parameters, or to the images where all parameters are frozen."""
    weights: list[Tensor] = [weight for weight in network.parameters() if weight.requires_grad]
    x = example.detach().requires_grad_(not weights)
    torch.autograd.grad(candidate(x).float().sum(), weights or [x], allow_unused=True)


def _every_call_compiled() -> AbstractContextManager[None]:
    """Returns a block in which a network that has been compiled too often raises an error.

    Else the compiler would run it as it is from then on, and say so to nobody.
    """
    return torch._dynamo.config.patch(fail_on_cache_limit_hit=True)


class Padded:
    """Calls a compiled network with batches of few sizes: the largest one, its half and its quarter.

    A size is compiled when it is first met, both ways where a gradient is asked for; a smaller batch is filled up with copies
    of its first image. Where the compiler fails after all, the plain network is called from then on.

    Args:
        network: The compiled network.
        plain: The same network as it is.
        largest: Images of a full batch; a larger one moves all three sizes.
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
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # see `compiled`; what is wrong with the images or the network fails again here
            logits = self.plain(x)
            say_off(error)
            self.works = False
            return logits

    def _try_backward(self, x: Tensor) -> None:
        """Makes one backward pass at a new size: it is compiled when it first runs, and an attack could not go on without."""
        if x.requires_grad and torch.is_grad_enabled() and len(x) not in self._tried:
            self._tried.add(len(x))
            trial = x.detach().requires_grad_()
            torch.autograd.grad(self.network(trial).float().sum(), trial, allow_unused=True)
