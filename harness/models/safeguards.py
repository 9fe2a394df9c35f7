"""Wrappers that protect attacks from a network that writes into its images, or through which no gradient passes."""

import copy
import logging
import warnings
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from harness.errors import ModelError, first_line, only_harness_errors
from harness.system.modes import frozen_parameters
from harness.system.out_of_memory import is_out_of_memory

logger = logging.getLogger(__name__)


class OnCopies(nn.Module):
    """A network that writes into its input, called with copies, so that an attack's images stay unchanged.

    Args:
        network: The network, in eval mode.
    """

    def __init__(self, network: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.network, self.training = network, False

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W), which stay unchanged."""
        return cast(Tensor, self.network(x.clone()))


class WithoutGradient(nn.Module):
    """A network through which no gradient passes, called outside of autograd.

    An attack on gradients then gets zeros, which the attack checks report. Autograd would raise an error during the attack.

    Args:
        network: The network, in eval mode.
        obstacle: The reason.
    """

    def __init__(self, network: nn.Module, obstacle: str) -> None:
        """See the class."""
        super().__init__()
        self.network, self.obstacle, self.training = network, obstacle, False

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K), which require no gradient, for images (N, C, H, W)."""
        return cast(Tensor, self.network(x.detach()))


def for_autograd(network: nn.Module) -> nn.Module:
    """Returns a network that autograd accepts: itself, or a copy if it was made in inference mode.

    Raises:
        ModelError: if it was made in inference mode and cannot be copied.
    """
    weights = [weight for weight in [*network.parameters(), *network.buffers()] if not is_lazy(weight)]
    with only_harness_errors(ModelError, "model: copying it, as it was made in inference mode,"):
        return copy.deepcopy(network) if any(weight.is_inference() for weight in weights) else network


def safeguarded(network: nn.Module, probe: Tensor) -> nn.Module:
    """Returns the network, wrapped in `OnCopies` or `WithoutGradient` where it needs that.

    Args:
        network: The network, in eval mode, images (N, C, H, W) in [0,1] to logits (N, K).
        probe: A few images (n, C, H, W) on the network's device.
    """
    with frozen_parameters(network):
        if _writes(network, probe):
            logger.info("the network writes into its input: it is given copies")
            network = OnCopies(network)
        obstacle = _obstacle_to_gradients(network, probe)
        stated = getattr(network, "obstacle", "")  # of a network in another runtime
        return network if obstacle is None else WithoutGradient(network, stated or obstacle)


def _writes(network: nn.Module, probe: Tensor) -> bool:
    """Returns whether a forward pass, with or without autograd, writes into its images, even the same values."""
    for leaf in (probe.clone(), probe.clone().requires_grad_()):
        with torch.set_grad_enabled(leaf.requires_grad):
            x = leaf.clone()  # neither a leaf nor a view: autograd forbids writing into those
            before = x._version
            try:
                network(x)
            except Exception:  # a forward pass that autograd refuses: see `_obstacle_to_gradients`
                if not leaf.requires_grad:
                    raise
        if x._version != before or not torch.equal(x.detach(), probe):
            return True
    return False


def _obstacle_to_gradients(network: nn.Module, probe: Tensor) -> str | None:
    """Returns why the images have no gradient, not even zero, after a pass forward and back; None where they have one."""
    x = probe.clone().requires_grad_()
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about operations without a backward pass: see the return value
            logits = network(x.view_as(x))
            if not logits.requires_grad:
                return "its logits require none"
            torch.autograd.grad(logits.float().sum(), x)
    except Exception as error:  # layers without a backward pass raise errors of many types, and so does an undefined gradient
        if is_out_of_memory(error):
            raise
        return first_line(error)
    return None
