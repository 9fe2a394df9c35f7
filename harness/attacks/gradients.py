"""The network as an attack library sees it: losses and gradients that its arithmetic can follow, however confident it is.

Three things get lost between a network and a library. The cross-entropy of a confident network is 0 to the last digit, and
its gradient looks at the runner-up alone before it underflows. Libraries square gradients, and add a constant to their
length before they divide by it, which swallows small ones. And some view a gradient as rows, an error where a network hands
it back channels-last.
"""

from typing import cast

import torch
from torch import Tensor, nn

from harness.system.memory import laid_out_as
from harness.threat import Norm, ThreatModel

LARGEST_MARGIN = 16.0
"""Margin of the two largest logits up to which they reach a cross-entropy as they are: beyond the logarithm of 2**24, 16.6, it is
exactly 0 in float32."""


class BoundedMargins(nn.Module):
    """A network whose logits reach a loss as `bounded_margins`."""

    def __init__(self, model: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W)."""
        return bounded_margins(cast(Tensor, self.model(x)))


class UnitGradients(nn.Module):
    """A network whose gradients have a largest entry from 1/2 to 1, image by image, and lie in memory as the images do."""

    def __init__(self, model: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Returns the network's logits (N, K) for images (N, C, H, W)."""
        entry = x.view_as(x)
        if entry.requires_grad:
            entry.register_hook(lambda gradient: _unit(laid_out_as(gradient, x)))
        return cast(Tensor, self.model(entry))


def followable(model: nn.Module, norm: Norm) -> nn.Module:
    """Returns the network as libraries can follow its gradients: in Linf they take the signs, in other norms lengths too."""
    return model if norm is Norm.LINF else UnitGradients(model)


def followable_cross_entropy(model: nn.Module, threat_model: ThreatModel) -> nn.Module:
    """Returns the network as libraries can follow the gradients of its cross-entropy.

    Towards a target the gradient is large until the target is reached.
    """
    return followable(model if threat_model.targeted else BoundedMargins(model), threat_model.norm)


def bounded_margins(logits: Tensor) -> Tensor:
    """Returns logits (N, K), those of an image with a margin above `LARGEST_MARGIN` divided so that it is that: same order.

    Where the margin is so large that the cross-entropy has no gradient in float32 at all, they stay as they are: that attacks
    on such a network are blind is for the checks to say.
    """
    if logits.shape[1] < 2:
        return logits
    first, second = logits.detach().topk(2, dim=1).values.unbind(dim=1)
    margin = (first - second).unsqueeze(1)
    wide = (margin > LARGEST_MARGIN) & (torch.exp(-margin) > 0)
    return torch.where(wide, logits * (LARGEST_MARGIN / margin), logits) if wide.any() else logits


def _unit(gradient: Tensor) -> Tensor:
    """Returns gradients (N, C, H, W) times powers of two, which change no digit; one of zero stays zero."""
    exponent = torch.frexp(gradient.abs().amax(dim=(1, 2, 3), keepdim=True)).exponent
    half = exponent // 2  # in two steps, as 2 to the power of 140 is no float32
    return torch.ldexp(torch.ldexp(gradient, -half), half - exponent)
