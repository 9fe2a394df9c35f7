"""The difference between the logits of a network and its inference form, and finite logits for attacks."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.metrics import Floats, largest_logit, logit_differences

LEAST_SCALE = 1e-6
"""Smallest divisor of a relative difference."""
FAR_BELOW = 200.0
"""Attacks get this much less than the smallest other logit in place of -inf: the probability is 0 in float32."""


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Returns the largest difference of logits (n, K), relative to the largest logit wanted; see `logit_differences`."""
    numbers, reference = _array(found), _array(wanted)
    return float(of_largest(logit_differences(numbers, reference).max(initial=0.0), reference))


def of_largest(difference: Floats, reference: Floats) -> Floats:
    """Returns differences of logits, of any shape, relative to the largest logit of a reference (N, K)."""
    return difference / max(largest_logit(reference), LEAST_SCALE)


def _array(logits: Tensor) -> NDArray[np.float64]:
    return logits.detach().double().cpu().numpy()


class FiniteLogits(nn.Module):
    """A network with a finite logit in place of -inf: libraries' losses subtract logits, and -inf minus -inf is NaN.

    The predicted class, the probabilities and the gradients of all other logits do not change.

    Args:
        network: Images (N, C, H, W) to logits (N, K).
    """

    def __init__(self, network: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.network = network
        self.eval()

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout that the network converts images to, if it has one."""
        return cast(torch.memory_format, getattr(self.network, "memory_format", torch.preserve_format))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W)."""
        logits = cast(Tensor, self.network(x))
        off = logits.isneginf()
        floor = logits.detach().masked_fill(off, torch.inf).amin(dim=1, keepdim=True) - FAR_BELOW
        return torch.where(off & floor.isfinite(), floor, logits)


def with_finite_logits(form: nn.Module, network: nn.Module, probe: Tensor) -> nn.Module:
    """Returns an inference form whose logits attacks can subtract: itself, unless the network has logits of -inf.

    Args:
        form: The inference form of the network.
        network: The network itself; a pass without gradients would compile a compiled inference form again.
        probe: A few images (n, C, H, W).
    """
    with torch.no_grad():
        return FiniteLogits(form) if cast(Tensor, network(probe)).isneginf().any() else form
