"""Training on several devices, or in several processes on CPUs, through Lightning Fabric.

Each process takes its share of every batch, attacks it on its own copy of the plain network, and adds its gradients to
those of the others. A network without batch norm thus learns what one process learns from the whole batch. Batch norm
takes its statistics from each share alone; after each epoch the processes' running statistics are averaged.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Thread

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessRaisedException

from harness.errors import HarnessError
from harness.images import ImageData
from harness.models.classifier import Classifier
from harness.models.state import state_of
from harness.progress import Advance, Progress, Silent
from harness.training.base import Recipe
from harness.training.loop import TrainingResult, train
from harness.training.processes import Processes

RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT")
"""Environment variables through which the processes find each other."""

Messages = SimpleQueue[tuple[float, str] | None]
"""Progress reports of the first process; None is the last one."""


class FabricProcesses(Processes):
    """The processes that Fabric has launched."""

    def __init__(self, fabric: Fabric) -> None:
        """See the class."""
        self.fabric = fabric
        self.rank, self.count, self.device = fabric.global_rank, fabric.world_size, fabric.device

    def total(self, tensor: Tensor) -> Tensor:
        """See `Processes.total`."""
        summed = self.fabric.all_reduce(tensor.detach().clone(), reduce_op="sum")
        if not isinstance(summed, Tensor):
            raise TypeError(f"expected a tensor from all_reduce, got {type(summed).__name__}")
        return summed


class Relay:
    """A progress display of the first process that is drawn by the one that launched it."""

    def __init__(self, messages: Messages) -> None:
        """See the class."""
        self.messages = messages

    @contextmanager
    def task(self, title: str, total: float) -> Iterator[Advance]:
        """Opens with the total, then reports the units done."""
        self.messages.put((total, title))
        yield lambda amount, note: self.messages.put((amount, note))


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
    """Trains like `harness.training.loop.train`, on several devices of one machine.

    The processes are spawned anew, so model and data must be picklable, and a script must guard its main part with
    `if __name__ == "__main__"`.

    Args:
        model: See `train`; left on the CPU.
        data: See `train`.
        recipe: See `train`; its batches are divided among the devices.
        devices: Number of devices, or of processes where `device` is the CPU.
        seed: See `train`.
        device: The kind of device.
        workers: Processes that load images, for each device.
        checkpoint: See `train`.
        progress: See `train`.

    Raises:
        HarnessError: see `train`; also if there are fewer devices.
    """
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise HarnessError(f"devices: expected at most {torch.cuda.device_count()}, as many as there are here, got {devices}")
    fabric = Fabric(accelerator=device.type, devices=devices, strategy="ddp_spawn")
    messages: Messages = get_context("spawn").SimpleQueue()
    drawing = Thread(target=_draw, args=(messages, progress), daemon=True)
    drawing.start()
    try:
        with _environment_restored():
            result, state = fabric.launch(
                partial(
                    _work,
                    model=model.cpu(),
                    data=data,
                    recipe=recipe,
                    seed=seed,
                    workers=workers,
                    checkpoint=checkpoint,
                    messages=messages,
                )
            )
    except ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        raise HarnessError(f"on {devices} devices: {last.partition(': ')[2] or last}") from error
    finally:
        messages.put(None)
        drawing.join()
    model.load_state_dict(state)
    model.eval()
    return result


def _work(
    fabric: Fabric,
    *,
    model: Classifier,
    data: ImageData,
    recipe: Recipe,
    seed: int,
    workers: int,
    checkpoint: Path | None,
    messages: Messages,
) -> tuple[TrainingResult, dict[str, Tensor]]:
    """Trains in one of the processes."""
    processes = FabricProcesses(fabric)
    own = copy.deepcopy(model)  # what was sent is in memory that the processes share
    result = train(
        own,
        data,
        recipe,
        seed=seed,
        device=processes.device,
        workers=workers,
        checkpoint=checkpoint,
        progress=Relay(messages) if processes.rank == 0 else Silent(),
        processes=processes,
    )
    return result, state_of(own)


def _draw(messages: Messages, progress: Progress) -> None:
    """Shows the first process's progress until its last message."""
    if (opening := messages.get()) is None:
        return
    total, title = opening
    with progress.task(title, total) as advance:
        while (message := messages.get()) is not None:
            advance(*message)


@contextmanager
def _environment_restored() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in RENDEZVOUS}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
