"""A hash of a network's weights, which no file, order or device of them changes."""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import TYPE_CHECKING

from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import nn


def state_sha256(module: nn.Module) -> str:
    """Returns the sha256 over names, types, shapes and bytes of a network's state and of its other buffers, sorted by name."""
    named = dict(chain(module.named_buffers(), module.state_dict().items()))
    digest = hashlib.sha256()
    for name, tensor in sorted(named.items()):
        if not isinstance(tensor, torch.Tensor):  # a module may keep other things in its state
            digest.update(f"{name} {tensor!r}\n".encode())
            continue
        values = tensor.detach().to("cpu").contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
