"""Training on several devices, or in several processes on CPUs, through Lightning Fabric.

Each process attacks its share of every batch on its own copy of the plain network; the gradients of all processes are
added. A network without batch norm thus learns what one process learns from the whole batch. Batch norm computes its
statistics on each share alone; after each epoch the processes' running statistics are averaged.
"""

import copy
import logging
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, cast

import safetensors.torch
import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.images import ImageData
from harness.models.classifier import Classifier
from harness.models.state import state_of
from harness.system import children
from harness.system.children import Child, Lost, refuse_unguarded
from harness.system.progress import Progress, Silent
from harness.system.progress_relay import Message, Reporter, Screen
from harness.training.history import TrainingResult
from harness.training.processes import Processes, check_devices
from harness.training.recipes.base import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

HERE = "127.0.0.1"
"""Address at which the processes connect."""
PARTNER = "harness.training.parallel:take_part"
"""The main function of each process."""
END_OF_PROCESS = 0.2
"""Seconds to wait after an error, so that a process that has ended is noticed as the cause."""


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


@dataclass(frozen=True)
class Failure:
    """The message of a process that ends with an error."""

    reason: str
    trace: str
    moment: float
    """Time of the error on a clock that the processes share: the first error is the cause of the others."""


def train_on_devices(
    train: Callable[..., TrainingResult],
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
    """Returns what the training loop returns, after training on several devices of one machine.

    The processes are spawned, so model and data must be picklable, and a script must guard its main part with
    `if __name__ == "__main__"`. All of them end with this call, or with this process if it is killed.

    Args:
        train: The loop that each process runs, `harness.training.loop.train`; a function of a module, as it is pickled.
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
    refuse_unguarded()
    training = partial(train, data=data, recipe=recipe, seed=seed, workers=workers, checkpoint=checkpoint)
    threads = max(1, torch.get_num_threads() // devices)
    level = logging.getLogger("harness").getEffectiveLevel()
    job = _Job(model.cpu(), training, devices, accelerator=device.type, port=_free_port(), threads=threads, level=level)
    with ExitStack() as stack:
        processes: list[Child] = []
        stack.callback(children.end, processes, patience=0.0)
        for rank in range(devices):
            processes.append(_started(job, rank))
        trained = _trained(processes, progress)
    model.load_state_dict(safetensors.torch.load(trained.state))
    model.eval()
    return trained.result


@dataclass(frozen=True)
class _Job:
    """The task of the processes."""

    model: Classifier
    training: "partial[TrainingResult]"
    """`train` without the arguments that differ between processes."""
    devices: int
    accelerator: str
    """Kind of device."""
    port: int
    """Port at which they connect."""
    threads: int
    """Threads of torch, for each process."""
    level: int
    """Lowest level of the log messages of the first process."""

    def run(self, rank: int, reporter: Reporter) -> None:
        """Trains as the process of a rank; the first one reports its progress and the result."""
        if rank:
            logging.disable()
        else:
            reporter.take_log(self.level)
        processes = FabricProcesses(self._joined(rank))
        torch.set_num_threads(self.threads)
        own = copy.deepcopy(self.model)  # the model that was sent lies in memory that the processes share
        result = self.training(own, device=processes.device, progress=Silent() if rank else reporter, processes=processes)
        if rank == 0:
            reporter.send(Trained(result, safetensors.torch.save(state_of(own))))

    def _joined(self, rank: int) -> "Fabric":
        """Returns Fabric, connected with the other processes."""
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": HERE, "MASTER_PORT": str(self.port)}
        fabric = Fabric(accelerator=self.accelerator, devices=self.devices, strategy="ddp", plugins=LightningEnvironment())
        fabric.launch()
        return fabric


def take_part(connection: Connection) -> None:
    """Trains as one of several processes.

    Args:
        connection: Gives the job and the rank; gets messages of `harness.system.progress_relay`, `Trained` and `Failure`.
    """
    reporter = Reporter(connection)
    try:
        job, rank = connection.recv()
        job.run(rank, reporter)
    except (Exception, SystemExit) as error:  # the boundary of the process: the parent gets the error with its traceback
        last = traceback.format_exception_only(error)[-1].strip()
        reason = str(error) if isinstance(error, HarnessError) else last
        reporter.send(Failure(reason, traceback.format_exc(), time.monotonic()))


def _started(job: _Job, rank: int) -> Child:
    try:
        child = children.started(PARTNER)
    except OSError as error:
        raise HarnessError(f"on {job.devices} devices: a process cannot be started: {error.strerror or error}") from error
    try:
        child.send((job, rank))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        children.end([child], patience=0.0)
        raise HarnessError(f"on {job.devices} devices: expected a model and data that can be pickled, got {error}") from error
    return child


def _trained(processes: Sequence[Child], progress: Progress) -> Trained:
    """Returns the result of the first process, after showing the progress until all processes have ended."""
    screen, running, trained = Screen(progress), dict(enumerate(processes)), None
    try:
        while running:
            children.await_news(running.values())
            news = _news(running)
            _check(news, running, f"on {len(processes)} devices")
            for rank, message in news:
                if isinstance(message, Trained):
                    trained = message
                elif isinstance(message, Lost):
                    del running[rank]
                else:
                    screen.show(cast(Message, message))
    finally:
        screen.give_up()
    if trained is None:
        raise HarnessError("the first process of a training ended without a result")
    return trained


def _news(running: Mapping[int, Child]) -> list[tuple[int, object]]:
    return [(rank, message) for rank, child in running.items() for message in child.told()]


def _check(news: Sequence[tuple[int, object]], running: Mapping[int, Child], where: str) -> None:
    """Raises the error that has ended a training: a lost process, else the first error, which causes those of the others."""
    if all(not isinstance(message, Failure | Lost) for _, message in news):
        return
    if any(isinstance(message, Failure) for _, message in news):
        time.sleep(END_OF_PROCESS)
        news = [*news, *_news(running)]
    for rank, message in news:
        if isinstance(message, Lost) and (message.code or not running[rank].listens):
            raise HarnessError(f"{where}: process {rank} {message.reason}")
    if failures := [message for _, message in news if isinstance(message, Failure)]:
        first = min(failures, key=lambda message: message.moment)
        raise HarnessError(f"{where}: {first.reason}") from RuntimeError(first.trace)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])
