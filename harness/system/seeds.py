"""Random state: seeds hashed from named parts, and a guard for libraries that use the global generators."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from harness.system.lazy import torch


def seed_of(*parts: object) -> int:
    """Returns a 63-bit seed from named parts, e.g. `seed_of(0, "train", "baseline", "epoch", 3)`."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_of(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns a torch generator on `device`, seeded by `seed_of(*parts)`."""
    return torch.Generator(device=device).manual_seed(seed_of(*parts))


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seeds Python's, NumPy's and torch's global generators, and puts all three back on leaving."""
    python_state, numpy_state = random.getstate(), np.random.get_state(legacy=False)
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        _seed_torch(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _seed_torch(seed: int) -> None:
    """Seeds the generators of all devices; `torch.manual_seed` alone would note its caller's stack where there is no GPU."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
