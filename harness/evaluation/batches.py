"""Batches of a split, and the network that takes them: how large, and how they reach the device."""

import copy
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.errors import DataError, HarnessError
from harness.images import ImageSplit, reads_files
from harness.models.safeguards import safeguarded
from harness.system.device import CPU_BATCH
from harness.system.modes import evaluating
from harness.system.out_of_memory import is_out_of_memory

STAGE_BATCH_LIMIT = 256
STAGE_BATCH_BYTES = 256 * 2**20
"""Memory that autograd may keep for one batch of an ensemble's stage on a CPU."""
READERS = min(4, os.cpu_count() or 1)
"""Threads that decode files while the network computes."""
PROBES = 2
"""Images on which the faster form of a network is compared with the network itself, and the network tried beforehand."""
MEASURED = 8
"""Images whose memory is measured on a GPU."""
GPU_BATCH_LIMIT = 1024
GPU_MEMORY_SHARE = 0.6
"""Share of the free memory that one batch may fill; the rest is for the attack's own tensors."""


@dataclass(frozen=True, eq=False)
class SplitBatch:
    """Examples of a split on the device."""

    indices: Tensor
    """(n,) int64 positions in the split, on the CPU."""
    x: Tensor
    """Images (n, C, H, W), float32 in [0,1]."""
    y: Tensor
    """True labels (n,), int64."""

    def __len__(self) -> int:
        return len(self.indices)

    def at(self, rows: Tensor) -> "SplitBatch":
        """Returns a copy of the examples `rows`, a mask (n,) or positions (m,); this batch itself where a mask takes all."""
        if rows.dtype == torch.bool and rows.all():
            return self
        return SplitBatch(self.indices[rows.cpu()], self.x[rows], self.y[rows])

    def cut(self, size: int) -> "tuple[SplitBatch, SplitBatch]":
        """Returns the first `size` examples, in the same memory, and a copy of the others, which may outlive this batch."""
        rest = torch.arange(len(self), device=self.x.device)[size:]
        return SplitBatch(self.indices[:size], self.x[:size], self.y[:size]), self.at(rest)

    @staticmethod
    def joined(parts: "list[SplitBatch]") -> "SplitBatch":
        """Returns one or more batches as one."""
        if len(parts) == 1:
            return parts[0]
        return SplitBatch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("indices", "x", "y")))


def batches(split: ImageSplit, batch_size: int, device: torch.device | str) -> Iterator[SplitBatch]:
    """Yields a split in its order; every image is decoded once.

    One batch is in memory at a time. Of files the next batch is decoded in threads meanwhile, so two are.
    """
    parts = [range(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]
    if not reads_files(split):
        for part in parts:
            yield load(split, part, device)
        return
    pool = ThreadPoolExecutor(READERS)
    try:
        coming = [pool.submit(split.__getitem__, index) for index in parts[0]] if parts else []
        for number, part in enumerate(parts):
            images = [reading.result()[0] for reading in coming]
            coming = [pool.submit(split.__getitem__, index) for index in parts[number + 1]] if number + 1 < len(parts) else []
            batch = _batch_of(split, part, images, device)
            del images  # else the images are in memory twice as long as the batch is used
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def load(split: ImageSplit, indices: range | list[int], device: torch.device | str) -> SplitBatch:
    """Returns the examples at some positions of a split.

    Raises:
        DataError: if their images differ in size.
    """
    return _batch_of(split, indices, [split[index][0] for index in indices], device)


def _batch_of(split: ImageSplit, indices: range | list[int], images: list[Tensor], device: torch.device | str) -> SplitBatch:
    if len(sizes := {image.shape for image in images}) > 1:
        found = " and ".join(sorted(" x ".join(map(str, size)) for size in sizes))
        raise DataError(f"data: expected images of one size, got {found}; resize them")
    x = torch.stack([image.detach() for image in images]).float()
    y = torch.from_numpy(np.asarray(split.labels)[list(indices)].astype(np.int64))
    return SplitBatch(torch.tensor(list(indices)), x.to(device), y.to(device))


def spread(indices: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> list[int]:
    """Returns at most `count` of the indices, evenly over the classes."""
    ordered: Sequence[int] = sorted((int(index) for index in indices), key=lambda index: int(labels[index]))
    positions = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[position] for position in positions]


def batch_size_for(model: nn.Module, split: ImageSplit, device: torch.device | str, wanted: int | None = None) -> int:
    """Returns the number of images of a forward pass.

    Args:
        model: The network, on the device.
        split: The examples; the first one is passed through the network to measure the memory it takes.
        device: A GPU's free memory decides; a CPU has a fixed number.
        wanted: A number that was asked for.

    Raises:
        HarnessError: if less than 1 was asked for.
    """
    if wanted is not None:
        if wanted < 1:
            raise HarnessError(f"batch_size: expected a whole number >= 1, got {wanted}")
        return wanted
    if torch.device(device).type != "cuda" or not len(split):
        return CPU_BATCH
    x = load(split, [0], device).x.repeat(MEASURED, 1, 1, 1).requires_grad_()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        forward_and_backward(model, x)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return MEASURED // 2
    each = max(1, (torch.cuda.max_memory_allocated(device) - before) // len(x))
    fitting = int(torch.cuda.mem_get_info(device)[0] * GPU_MEMORY_SHARE) // each
    return int(2 ** np.floor(np.log2(np.clip(fitting, 1, GPU_BATCH_LIMIT))))


def stage_batch_size(model: nn.Module, split: ImageSplit) -> int:
    """Returns the number of images of a batch of an ensemble's stages on a CPU, a power of two.

    Thousands of passes of a small network take longer to be called than to be computed, and the last examples of a batch cost as
    many calls as all of them. A large network keeps `CPU_BATCH`. What autograd keeps for an image decides, as a time that
    is measured would give other batches, and so other random starts, in each run.

    Args:
        model: The network, in eval mode, its parameters frozen.
        split: The examples; the first one is passed alone and twice, so that what is kept of the weights cancels.
    """
    one, two = (_kept_by_autograd(model, load(split, [0] * count, "cpu").x) for count in (1, 2))
    if two <= one:
        return CPU_BATCH
    fitting = int(np.clip(STAGE_BATCH_BYTES // (two - one), CPU_BATCH, STAGE_BATCH_LIMIT))
    return 1 << (fitting.bit_length() - 1)


def _kept_by_autograd(model: nn.Module, x: Tensor) -> int:
    """Returns the bytes that a forward pass of images (N, C, H, W) keeps for the backward pass."""
    kept: dict[int, int] = {}  # by address, as one tensor may be kept by two operations

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = model(x.requires_grad_())
    del logits
    return sum(kept.values())


def forward_and_backward(model: nn.Module, x: Tensor) -> None:
    """Passes images (N, C, H, W) that require a gradient forward, and back where the network has a differentiable path."""
    total = model(x).sum()
    if total.requires_grad:
        torch.autograd.grad(total, x, allow_unused=True)


def _is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    """Returns whether a tensor is on a device, or on any one of its type where the device has no number."""
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)


def prepare(
    model: nn.Module, split: ImageSplit, device: torch.device | str, batch_size: int | None
) -> tuple[torch.device, nn.Module, int]:
    """Returns the device, the network on it (a copy if it lies elsewhere; behind a safeguard if it needs one), the batch size."""
    if not len(split):
        raise HarnessError("evaluation: expected at least one example, got an empty split")
    device = torch.device(device)
    elsewhere = any(not _is_on(tensor, device) for tensor in [*model.parameters(), *model.buffers()])
    model = copy.deepcopy(model).to(device) if elsewhere else model
    with evaluating(model):
        model = safeguarded(model, load(split, range(min(PROBES, len(split))), device).x)
        return device, model, batch_size_for(model, split, device, batch_size)
