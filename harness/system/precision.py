"""Full float32: GPUs would round the factors of convolutions and products to TF32, and CPUs may use bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from harness.system.lazy import torch

T = TypeVar("T")


@contextmanager
def full_float32() -> Iterator[None]:
    """Computes float32 convolutions and matrix products in float32, and puts the caller's choice back on leaving.

    TF32 keeps 10 bits of each factor, which can move an example over a decision boundary: what is measured with it is
    another network than the one that is exported.

    Source: https://pytorch.org/docs/stable/notes/cuda.html#tf32-on-ampere
    """
    # torch keeps the choice twice, and refuses to tell the older form once the two disagree: both are set and put back.
    backends: Any = torch.backends
    operations = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul)
    chosen = [operation.fp32_precision for operation in operations]
    cudnn, matmul = unless_mixed(lambda: backends.cudnn.allow_tf32), unless_mixed(torch.get_float32_matmul_precision)
    backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    for operation in operations:
        operation.fp32_precision = "ieee"
    try:
        yield
    finally:
        if cudnn is not None:
            backends.cudnn.allow_tf32 = cudnn
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        for operation, precision in zip(operations, chosen, strict=True):
            operation.fp32_precision = precision


def unless_mixed(read: Callable[[], T]) -> T | None:
    """Returns a setting of the older form, or None where the caller has changed the newer form only."""
    try:
        return read()
    except RuntimeError:
        return None
