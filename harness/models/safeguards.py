"""What stands between attacks and a network that writes into its images, or through which no gradient passes."""

import copy
import logging
import warnings
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from harness.errors import ModelError, first_line, only_harness_errors
from harness.system.modes import frozen_parameters

logger = logging.getLogger(__name__)


class OnCopies(nn.Module):
    """A network that writes into its input, given copies: the images of an attack are its own.

    Args:
        network: The network, in eval mode.
    """

    def __init__(self, network: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.network, self.training = network, False

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W), which stay as they are."""
        return cast(Tensor, self.network(x.clone()))


class WithoutGradient(nn.Module):
    """A network through which no gradient passes, called outside of autograd.

    An attack on gradients gets zeros, which the attack checks see, where autograd would raise an error in the midst of it.

    Args:
        network: The network, in eval mode.
        obstacle: Why none passes.
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
    """Returns a network that autograd takes: itself, or a copy where it was made in inference mode.

    Raises:
        ModelError: if it was, and cannot be copied.
    """
    weights = [weight for weight in [*network.parameters(), *network.buffers()] if not is_lazy(weight)]
    with only_harness_errors(ModelError, "model: copying it, as it was made in inference mode,"):
        return copy.deepcopy(network) if any(weight.is_inference() for weight in weights) else network


def safeguarded(network: nn.Module, probe: Tensor) -> nn.Module:
    """Returns the network itself, or what gives it copies of its images, or calls it outside of autograd, where it needs that.

    Args:
        network: The network, in eval mode, images (N, C, H, W) in [0,1] to logits (N, K).
        probe: A few images (n, C, H, W) on the network's device.
    """
    with frozen_parameters(network):
        if _writes(network, probe):
            logger.info("the network writes into its input: it is given copies")
            network = OnCopies(network)
        obstacle = _obstacle_to_gradients(network, probe)
        return network if obstacle is None else WithoutGradient(network, obstacle)


def _writes(network: nn.Module, probe: Tensor) -> bool:
    """Returns whether a forward pass, with or without autograd, writes into its images, be it the values that they have."""
    for leaf in (probe.clone(), probe.clone().requires_grad_()):
        with torch.set_grad_enabled(leaf.requires_grad):
            x = leaf.clone()  # no leaf and no view, which may not be written into
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
            warnings.simplefilter("ignore")  # of torch, about operations that lack a backward pass: what is found is said here
            logits = network(x.view_as(x))
            if not logits.requires_grad:
                return "its logits require none"
            torch.autograd.grad(logits.float().sum(), x)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # layers without a backward pass raise errors of many types, and so does an undefined gradient
        return first_line(error)
    return None
