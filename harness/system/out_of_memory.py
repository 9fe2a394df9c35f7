"""Errors that say that memory is short, whichever library raises them, and smaller batches after one."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from harness.errors import HarnessError, first_line
from harness.system.memory import give_memory_back

T = TypeVar("T")

RAISED = ("OutOfMemoryError", "MemoryError")
"""Names of exception classes, so that PyTorch need not be imported to know its own: NumPy's is derived from MemoryError."""
SAID = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Failed to allocate memory for requested buffer",
    "std::bad_alloc",
)
"""What PyTorch (c10/core/impl/alloc_cpu.cpp, c10/cuda), cuDNN, cuBLAS and ONNX Runtime (bfc_arena.cc) say in other errors."""
ONEDNN = frozenset({"could not create a primitive", "could not create a memory object", "could not execute a primitive"})
"""All that oneDNN says where memory is short (torch 2.15): the status of its error is lost on the way. Where it means something
else, smaller batches end with the same words."""

logger = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error, or one that it was raised from, says that memory is short on the CPU or a GPU."""
    return any(_says_so(it) for it in _causes(error))


def with_smaller_batches(attempt: Callable[[int], T], size: int, *, what: str, most: int | None = None) -> T:
    """Returns what `attempt` returns for a batch size, which is halved, and all begun again, while memory is short.

    Args:
        attempt: Called with the number of images of a batch; keeps nothing of a call that fails.
        size: The first size.
        what: What is computed, for messages.
        most: The number of images that there are, where that bounds a batch.

    Raises:
        HarnessError: if memory is short with one image too.
    """
    while True:
        try:
            return attempt(size)
        except Exception as error:  # memory may be short in any library
            if not is_out_of_memory(error):
                raise
            said = first_line(error)
        # Here, as the traceback of an error keeps the tensors of all functions that it went through.
        size = half(size if most is None else min(size, most), what=what, said=said)


def half(size: int, *, what: str, said: str, least: int = 1, then: str = "begun again") -> int:
    """Gives free memory back and returns the next smaller batch size, which is told to the user.

    Args:
        size: Images of the batch that was too large.
        what: What was computed.
        said: What the error said.
        least: The smallest size that makes sense.
        then: What is done with the smaller size.

    Raises:
        HarnessError: if there is none.
    """
    give_back()
    if size <= least:
        images = "1 image" if size == 1 else f"{size} images"
        raise HarnessError(f"{what}: out of memory with batches of {images}, and fewer are not possible: {said}")
    smaller = max(least, size // 2)
    logger.warning("%s: out of memory with batches of %d images (%s); %s with %d", what, size, said, then, smaller)
    return smaller


def give_back() -> None:
    """Gives memory that nothing refers to back to the system, and to the GPU."""
    gc.collect()
    give_memory_back()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _says_so(error: BaseException) -> bool:
    if any(kind.__name__ in RAISED for kind in type(error).__mro__):
        return True
    said = str(error)
    return not isinstance(error, HarnessError) and (said.strip() in ONEDNN or any(text in said for text in SAID))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and those that it was raised from."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__
