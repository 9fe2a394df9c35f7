"""Training on several devices, or in several processes on CPUs, through Lightning Fabric.

Each process attacks its share of every batch on its own copy of the plain network; the gradients of all processes are
added. A network without batch norm thus learns what one process learns from the whole batch. Batch norm computes its
statistics on each share alone; after each epoch the processes' running statistics are averaged.
"""

import copy
import logging
import os
import signal
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from torch import Tensor
from torch.multiprocessing.spawn import ProcessContext, ProcessException, start_processes

from harness.errors import HarnessError
from harness.images import ImageData
from harness.models.classifier import Classifier
from harness.models.state import state_of
from harness.system.interrupts import blocked
from harness.system.progress import Progress, Silent
from harness.system.progress_relay import Reporter, Screen
from harness.training.loop import TrainingResult, train
from harness.training.processes import Processes, check_devices
from harness.training.recipes.base import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

HERE = "127.0.0.1"
"""Address at which the processes connect."""


class FabricProcesses(Processes):
    """The processes that Fabric has connected."""

    def __init__(self, fabric: "Fabric") -> None:
        """See the class."""
        self.fabric = fabric
        self.rank, self.count, self.device = fabric.global_rank, fabric.world_size, fabric.device

    def total(self, tensor: Tensor) -> Tensor:
        """See `Processes.total`."""
        summed = self.fabric.all_reduce(tensor.detach().clone(), reduce_op="sum")
        if not isinstance(summed, Tensor):
            raise TypeError(f"expected a tensor from all_reduce, got {type(summed).__name__}")
        return summed


@dataclass(frozen=True)
class Trained:
    """The last message of the first process."""

    result: TrainingResult
    state: bytes
    """The network's state in safetensors: tensors themselves would be sent as shared memory, which ends with the process."""


def train_on_devices(
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    *,
    devices: int,
    seed: int,
    device: torch.device,
    workers: int,
    checkpoint: Path | None,
    progress: Progress,
) -> TrainingResult:
    """Returns what `harness.training.loop.train` returns, after training on several devices of one machine.

    The processes are spawned, so model and data must be picklable, and a script must guard its main part with
    `if __name__ == "__main__"`. All of them end with this call, or with this process if it is killed.

    Args:
        model: See `train`; left on the CPU if there are several devices.
        data: See `train`.
        recipe: See `train`; its batches are divided among the devices.
        devices: Number of devices, or of processes if `device` is the CPU; with one, this process trains.
        seed: See `train`.
        device: The kind of device.
        workers: Processes that load images, for each device.
        checkpoint: See `train`.
        progress: See `train`.

    Raises:
        HarnessError: see `train`; also if there are fewer devices, or one of the processes is killed.
    """
    if devices == 1:
        return train(model, data, recipe, seed=seed, device=device, workers=workers, checkpoint=checkpoint, progress=progress)
    check_devices(devices, device)
    training = partial(train, data=data, recipe=recipe, seed=seed, workers=workers, checkpoint=checkpoint)
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    job = _Job(model.cpu(), training, sender, devices=devices, accelerator=device.type, port=_free_port())
    with ExitStack() as stack:
        with blocked(signal.SIGINT, signal.SIGTERM):  # they are delivered when all processes are started and can be ended
            context = start_processes(job, nprocs=devices, join=False)
            stack.callback(_end, context)
        sender.close()
        try:
            trained = _trained(context, receiver, progress)
        except ProcessException as error:
            last = str(error).strip().splitlines()[-1]
            raise HarnessError(f"on {devices} devices: {last.partition(': ')[2] or last}") from error
    model.load_state_dict(safetensors.torch.load(trained.state))
    model.eval()
    return trained.result


class _Job:
    """The task of each process.

    Args:
        model: The network to train.
        training: `train` without the arguments that differ between processes.
        sender: Connection for the progress messages of the first process.
        devices: Number of processes.
        accelerator: Kind of device.
        port: Port at which they connect.
    """

    def __init__(
        self,
        model: Classifier,
        training: "partial[TrainingResult]",
        sender: Connection,
        *,
        devices: int,
        accelerator: str,
        port: int,
    ) -> None:
        self.model, self.training, self.sender = model, training, sender
        self.devices, self.accelerator, self.port = devices, accelerator, port
        self.threads = max(1, torch.get_num_threads() // devices)
        self.level = logging.getLogger("harness").getEffectiveLevel()

    def __call__(self, rank: int) -> None:
        """Trains as the process of that rank."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        Thread(target=_end_with_parent, daemon=True).start()
        reporter = self._reporter(rank)
        processes = FabricProcesses(self._joined(rank))
        torch.set_num_threads(self.threads)
        own = copy.deepcopy(self.model)  # the model that was sent lies in memory that the processes share
        result = self.training(own, device=processes.device, progress=reporter or Silent(), processes=processes)
        if reporter is not None:
            reporter.send(Trained(result, safetensors.torch.save(state_of(own))))

    def _reporter(self, rank: int) -> Reporter | None:
        """Returns the reporter of the first process; the others get None and log nothing."""
        if rank:
            self.sender.close()
            logging.disable()
            return None
        reporter = Reporter(self.sender)
        reporter.take_log(self.level)
        return reporter

    def _joined(self, rank: int) -> "Fabric":
        """Returns Fabric, connected with the other processes."""
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": HERE, "MASTER_PORT": str(self.port)}
        fabric = Fabric(accelerator=self.accelerator, devices=self.devices, strategy="ddp", plugins=LightningEnvironment())
        fabric.launch()
        return fabric


def _trained(context: ProcessContext, receiver: Connection, progress: Progress) -> Trained:
    """Returns the last message of the first process, after showing its progress until all processes have ended."""
    screen, sources, trained = Screen(progress), [receiver], None
    try:
        ended = False
        while not ended:
            wait([*sources, *context.sentinels])
            ended = bool(context.join(timeout=0))
            try:
                while sources and receiver.poll():
                    if isinstance(message := receiver.recv(), Trained):
                        trained = message
                    else:
                        screen.show(message)
            except (EOFError, OSError):  # the first process has ended, perhaps within a message
                sources.clear()
    finally:
        screen.give_up()
    if trained is None:
        raise HarnessError("the first process of a training ended without a result")
    return trained


def _end(context: ProcessContext) -> None:
    for process in context.processes:
        process.kill()
        process.join()


def _end_with_parent() -> None:
    """Ends this process when the process that started it has ended."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])
