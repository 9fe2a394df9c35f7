"""torch.compile where it works, the plain network and one line of explanation where it does not."""

import logging

import torch
from torch import Tensor, nn

from harness.seeds import global_seed
from harness.training.base import Network

logger = logging.getLogger(__name__)


def compiled(network: nn.Module, example: Tensor) -> Network:
    """Returns a compiled form of a network after one trial in its present mode; the network itself where that fails.

    Args:
        network: The network; it comes out of the trial with its buffers, gradients and modes as they were.
        example: Images (N, 3, H, W) of the shape that it will see.
    """
    candidate = torch.compile(network)
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        with global_seed(0):
            _trial(candidate, network, example)
    except Exception as error:  # compilers fail in many types, and none of them is a reason to stop
        first = (str(error).strip().splitlines() or ["no message"])[0]
        logger.warning("torch.compile is off, as it fails here: %s: %.200s", type(error).__name__, first)
        return network
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
    return candidate


def _trial(candidate: Network, network: nn.Module, example: Tensor) -> None:
    """Makes one forward and one backward pass, to the parameters, or to the images where all parameters are frozen."""
    weights: list[Tensor] = [weight for weight in network.parameters() if weight.requires_grad]
    x = example.detach().requires_grad_(not weights)
    torch.autograd.grad(candidate(x).float().sum(), weights or [x], allow_unused=True)
