"""A network's state as plain tensors, and files that are complete or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.system.umask import follow_umask


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of a network's state: on the CPU, contiguous, each tensor with its own memory."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; its file is renamed to `path` when the block ends without an error.

    The content is on the disk before the rename, so that not even a power cut leaves half a file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        follow_umask(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
