"""Batches of few sizes: a compiler, and cuDNN on GPUs, plans a network anew for every size that it meets."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harness.models.agreement import relative_difference

TOLERANCE = 1e-3
"""Largest difference of logits, relative to the largest one, that counts as rounding: kernels differ with the size of a batch."""


def filled_up(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Returns images (n, C, H, W) with copies of the first one behind them, up to the smallest size that is large enough.

    Args:
        x: The images, at least one, contiguous or channels-last, which is kept.
        sizes: The sizes to choose from, rising; more images than the last one stay as they are.
    """
    missing = next((size for size in sizes if size >= len(x)), len(x)) - len(x)
    if not missing:
        return x
    last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    filling = x[:1].detach().expand(missing, -1, -1, -1)
    return torch.cat([x, filling.contiguous(memory_format=layout)]).contiguous(memory_format=layout)


def halvings(largest: int) -> tuple[int, ...]:
    """Returns a size, its half and its quarter, rising: for networks whose plan or compilation takes longer than many a pass."""
    return tuple(sorted({max(1, largest >> shift) for shift in range(3)}))


def eighths(largest: int) -> tuple[int, ...]:
    """Returns eight equal steps up to a size, the half of the first of them, the half of that and so on down to 1, rising."""
    steps = {-(-largest * step // 8) for step in range(1, 9)}
    return tuple(sorted(steps.union(min(steps) >> shift for shift in range(min(steps).bit_length()))))


class FewSizes(nn.Module):
    """Calls a network in eval mode with batches of few sizes.

    For GPUs. cuDNN chooses its kernels anew for each size, for each convolution and both directions, see `quick_layout` for
    how long that takes. Attacks leave a different number of survivors at every step. CPUs have no such plans, and would
    compute the filling for nothing.

    Args:
        network: Images (N, C, H, W) to logits (N, K), each image's by itself.
        sizes: The sizes, rising; the last one is that of a full batch.
    """

    def __init__(self, network: nn.Module, sizes: Sequence[int]) -> None:
        """See the class."""
        super().__init__()
        self.network, self.sizes, self.training = network, tuple(sizes), False

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout that images are brought into, where the network says so."""
        return cast(torch.memory_format, getattr(self.network, "memory_format", torch.preserve_format))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (n, K) for images (n, C, H, W)."""
        return cast(Tensor, self.network(filled_up(x, self.sizes) if len(x) else x))[: len(x)]


@torch.no_grad()
def keeps_images_apart(network: nn.Module, probe: Tensor) -> bool:
    """Returns whether other images in the batch change nothing about the logits of images (n, C, H, W), up to rounding.

    They do where a network looks at the whole batch, or draws random numbers. The others are the negatives of the probe,
    as copies would not move a mean.
    """
    wanted, found = network(probe), network(torch.cat([probe, 1 - probe]))[: len(probe)]
    return relative_difference(found, wanted) <= TOLERANCE


def in_few_sizes(network: nn.Module, probe: Tensor, largest: int) -> nn.Module:
    """Returns a network in eval mode that meets batches of few sizes, on GPUs and where it keeps images apart; else itself.

    The sizes are `eighths`; `halvings` with channels last.

    Args:
        network: The network, in eval mode.
        probe: A few images (n, C, H, W) on the network's device.
        largest: Images of a full batch.
    """
    if probe.device.type != "cuda" or not keeps_images_apart(network, probe):
        return network
    return FewSizes(network, halvings(largest) if _is_channels_last(network) else eighths(largest))


def _is_channels_last(network: nn.Module) -> bool:
    """Returns whether convolutions of a network have their weights, and with them all that passes, channels last."""
    kernels = (weight for weight in network.parameters() if weight.dim() == 4 and not weight.is_contiguous())
    return any(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
