"""Networks that take more memory than there is for batches above a size."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

CPU_SAYS = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory:"
    " you tried to allocate 8388608 bytes. Error code 12 (Cannot allocate memory)"
)


def error_of(allocate: Callable[[], object]) -> BaseException:
    """Returns what an allocation raises that no machine can satisfy.

    In a thread of its own: glibc gives a thread another arena after such a failure, and from then on its large tensors take fresh
    pages each time.
    """
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(allocate).exception()
    assert error is not None, "expected a machine with less memory"
    return error


ERRORS: dict[str, Callable[[], BaseException]] = {
    "cpu": lambda: RuntimeError(CPU_SAYS),
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "python": MemoryError,
    "numpy": lambda: error_of(lambda: np.empty(2**62, dtype=np.uint8)),
    "onednn": lambda: RuntimeError("could not create a primitive"),
    "cudnn": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
}
"""What libraries raise where memory is short."""


class Hungry(nn.Module):
    """A network whose memory suffices for `most` images.

    Args:
        network: Computes the logits.
        most: Images of the largest batch that fits.
        error: A name of `ERRORS`.
        spared: Passes before memory gets short.
    """

    def __init__(self, network: nn.Module, most: int, *, error: str = "cpu", spared: int = 0) -> None:
        super().__init__()
        self.network, self.most, self.error, self.spared = network, most, error, spared

    def forward(self, x: Tensor) -> Tensor:
        self.spared -= 1
        if self.spared < 0 and len(x) > self.most:
            raise ERRORS[self.error]()
        return self.network(x)
