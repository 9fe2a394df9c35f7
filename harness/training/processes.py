"""The processes, one or several, that train one network: shares of the batches, and sums over all processes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from harness.errors import HarnessError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Processes(ABC):
    """The processes that train one network; each works on its share of every batch.

    Gradients are added explicitly after the backward pass, not by a wrapper around the network, so that attacks, several
    forward passes a batch and weight perturbations use the plain network.
    """

    rank: int
    """This process's number, from 0."""
    count: int
    """The number of processes."""
    device: torch.device
    """This process's device."""

    @abstractmethod
    def total(self, tensor: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes."""

    def share(self, loader: DataLoader[tuple[Tensor, int]], *, in_step: bool) -> DataLoader[tuple[Tensor, int]]:
        """Returns a loader of this process's share of each batch.

        Args:
            loader: The loader of whole batches.
            in_step: Give every process a share of every batch, as training needs; examples then occur several times in
                a batch that has fewer examples than there are processes. Otherwise each example occurs once.
        """
        if self.count == 1:
            return loader
        return DataLoader(
            loader.dataset,
            batch_sampler=Share(loader.batch_sampler, self.rank, self.count, in_step=in_step),
            num_workers=loader.num_workers,
            persistent_workers=loader.persistent_workers,
            pin_memory=loader.pin_memory,
            worker_init_fn=loader.worker_init_fn,
            generator=loader.generator,
        )

    def add_gradients(self, model: nn.Module) -> None:
        """Replaces every gradient by its sum over all processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        sums = self.total(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, values in zip(gradients, sums.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(values.view(gradient.shape))

    def average_buffers(self, model: nn.Module) -> None:
        """Replaces the batch-norm statistics of each process by their mean over the processes; constants stay."""
        if self.count == 1:
            return
        for layer in model.modules():
            if isinstance(layer, BATCH_NORMS):
                for buffer in filter(Tensor.is_floating_point, layer.buffers(recurse=False)):
                    buffer.copy_(self.total(buffer) / self.count)


def check_devices(devices: int, device: torch.device) -> None:
    """Checks that so many devices can share a training.

    Args:
        devices: Number of GPUs, or of processes where `device` is the CPU.
        device: The kind of device.

    Raises:
        HarnessError: if there are fewer, or `device` names a single one.
    """
    if device.type != "cuda" or devices == 1:
        return
    if device.index is not None:
        raise HarnessError(f"device: expected cuda, as {devices} devices share a training, got {device}")
    if devices > (here := torch.cuda.device_count()):
        raise HarnessError(f"devices: expected at most {here}, as many as there are here, got {devices}")


class OneProcess(Processes):
    """This process alone."""

    def __init__(self, device: torch.device) -> None:
        """See the class."""
        self.rank, self.count, self.device = 0, 1, device

    def total(self, tensor: Tensor) -> Tensor:
        """See `Processes.total`."""
        return tensor


class Share(Sampler[list[Any]]):
    """Every `count`-th example of each batch.

    Args:
        batches: The sampler of whole batches.
        rank: This process's number, from 0.
        count: The number of processes.
        in_step: Give the whole batch, instead of nothing, where it has fewer examples than there are processes.
    """

    def __init__(self, batches: Any, rank: int, count: int, *, in_step: bool) -> None:
        """See the class."""
        self.batches, self.rank, self.count, self.in_step = batches, rank, count, in_step

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration."""
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in self.batches:
            share = batch if self.in_step and len(batch) < self.count else batch[self.rank :: self.count]
            if share:
                yield share
