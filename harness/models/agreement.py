"""How far the logits of two forms of a network lie apart, and logits for attacks to do arithmetic with."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.metrics import largest_logit, logit_differences

LEAST_SCALE = 1e-6
"""Logits all of which are smaller are compared as if the largest were this."""
FAR_BELOW = 200.0
"""How far under the smallest other logit a class that is switched off is shown to attacks: its probability is 0 in float32."""


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Returns the largest difference of logits (n, K), relative to the largest logit wanted; see `logit_differences`."""
    numbers, reference = _array(found), _array(wanted)
    return float(logit_differences(numbers, reference).max(initial=0.0)) / max(largest_logit(reference), LEAST_SCALE)


def _array(logits: Tensor) -> NDArray[np.float64]:
    return logits.detach().double().cpu().numpy()


class FiniteLogits(nn.Module):
    """Shows attacks a finite logit in place of -inf: the losses of libraries take differences, and -inf less -inf is NaN.

    Which class is predicted, the probabilities and the gradients of all other logits stay as they are.

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
        """The layout that images are brought into, where the network says so."""
        return cast(torch.memory_format, getattr(self.network, "memory_format", torch.preserve_format))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W)."""
        logits = cast(Tensor, self.network(x))
        off = logits.isneginf()
        floor = logits.detach().masked_fill(off, torch.inf).amin(dim=1, keepdim=True) - FAR_BELOW
        return torch.where(off & floor.isfinite(), floor, logits)


def with_finite_logits(form: nn.Module, network: nn.Module, probe: Tensor) -> nn.Module:
    """Returns a form of a network that attacks can do arithmetic with: itself, unless the network has logits of -inf.

    Args:
        form: The network in the form that attacks differentiate.
        network: The network itself: a pass without gradients would have a compiled form compiled anew.
        probe: A few images (n, C, H, W).
    """
    with torch.no_grad():
        return FiniteLogits(form) if cast(Tensor, network(probe)).isneginf().any() else form
