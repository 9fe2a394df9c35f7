"""Batches of few sizes, or of one: compilers, and cuDNN on GPUs, prepare a network for each size; other sizes round otherwise."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harness.models.agreement import relative_difference
from harness.system.by_example import usual_draws

TOLERANCE = 1e-3
"""Largest difference of logits, relative to the largest one, that counts as rounding: other batch sizes use other kernels."""


def filled_up(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Returns images (n, C, H, W) followed by copies of the first one, up to the smallest size that is large enough.

    Args:
        x: The images, at least one, contiguous or channels-last; the result has the same layout.
        sizes: The sizes to choose from, rising; a batch larger than the last one stays as it is.
    """
    missing = next((size for size in sizes if size >= len(x)), len(x)) - len(x)
    if not missing:
        return x
    last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    filling = x[:1].detach().expand(missing, -1, -1, -1)
    return torch.cat([x, filling.contiguous(memory_format=layout)]).contiguous(memory_format=layout)


def halvings(largest: int) -> tuple[int, ...]:
    """Returns a size, its half and its quarter, rising: for networks that take long to prepare or compile."""
    return tuple(sorted({max(1, largest >> shift) for shift in range(3)}))


def eighths(largest: int) -> tuple[int, ...]:
    """Returns eight equal steps up to a size, the half of the first of them, the half of that and so on down to 1, rising."""
    steps = {-(-largest * step // 8) for step in range(1, 9)}
    return tuple(sorted(steps.union(min(steps) >> shift for shift in range(min(steps).bit_length()))))


class FewSizes(nn.Module):
    """A network in eval mode that gets batches of few sizes, for GPUs.

    cuDNN chooses its kernels for each batch size, each convolution and both directions; see `quick_layout` for the time that
    takes. Attacks have another number of active images at every step. CPUs prepare nothing, and would compute the copies
    in vain.

    Args:
        network: Images (N, C, H, W) to logits (N, K), each image independent of the others.
        sizes: The sizes, rising; the last one is that of a full batch.
    """

    def __init__(self, network: nn.Module, sizes: Sequence[int]) -> None:
        """See the class."""
        super().__init__()
        self.network, self.sizes, self.training = network, tuple(sizes), False

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout that the network converts images to, if it has one."""
        return cast(torch.memory_format, getattr(self.network, "memory_format", torch.preserve_format))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (n, K) for images (n, C, H, W)."""
        return cast(Tensor, self.network(filled_up(x, self.sizes) if len(x) else x))[: len(x)]


class OneSize(nn.Module):
    """A network in eval mode that gets batches of one size and layout, whatever an attack passes.

    On a CPU the logits and gradients of an image are then equal bit for bit, whatever images lie beside it and wherever in the
    batch it is; between batches of two sizes the last digits differ, as other kernels compute them.

    Args:
        network: Images (N, C, H, W) to logits (N, K).
        size: Images of a pass; None where the network mixes the images of a batch, so that copies would change it.
    """

    def __init__(self, network: nn.Module, size: int | None) -> None:
        """See the class."""
        super().__init__()
        self.network, self.size, self.training = network, size, False

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (n, K) for images (n, C, H, W)."""
        with usual_draws():
            if self.size is None or not len(x):
                return cast(Tensor, self.network(x))
            parts = [self._full(part, self.size) for part in x.split(self.size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _full(self, x: Tensor, size: int) -> Tensor:
        """Passes at most `size` images in memory of their own, so that they begin where the allocator lets all batches begin."""
        entry = x.contiguous() if x.storage_offset() == 0 else x.clone(memory_format=torch.contiguous_format)
        return cast(Tensor, self.network(filled_up(entry, (size,))))[: len(x)]


@torch.no_grad()
def keeps_images_apart(network: nn.Module, probe: Tensor) -> bool:
    """Returns whether other images in the batch change nothing about the logits of images (n, C, H, W), up to rounding.

    They change where a network computes statistics of the batch, or draws random numbers. The other images are the negatives of
    the probe, as copies would not change a mean.
    """
    wanted, found = network(probe), network(torch.cat([probe, 1 - probe]))[: len(probe)]
    return relative_difference(found, wanted) <= TOLERANCE


def in_few_sizes(network: nn.Module, probe: Tensor, largest: int) -> nn.Module:
    """Returns `FewSizes` of a network on a GPU that keeps images apart; any other network itself.

    The sizes are `eighths`, or `halvings` with channels last.

    Args:
        network: The network, in eval mode.
        probe: A few images (n, C, H, W) on the network's device.
        largest: Images of a full batch.
    """
    if probe.device.type != "cuda" or not keeps_images_apart(network, probe):
        return network
    return FewSizes(network, halvings(largest) if _is_channels_last(network) else eighths(largest))


def in_one_size(network: nn.Module, probe: Tensor, size: int) -> OneSize:
    """Returns `OneSize` of a network, of that many images unless it mixes the images of a batch; `probe` as of `in_few_sizes`."""
    return OneSize(network, size if keeps_images_apart(network, probe) else None)


def _is_channels_last(network: nn.Module) -> bool:
    """Returns whether a network has convolutions with their weights, and so their activations, channels last."""
    kernels = (weight for weight in network.parameters() if weight.dim() == 4 and not weight.is_contiguous())
    return any(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
