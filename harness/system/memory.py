"""Memory settings for speed: freed memory is reused, batches are cut to the cache's size, garbage is collected later."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3)."""
DEFAULTS = {M_TRIM_THRESHOLD: 128 * 1024, M_MMAP_MAX: 65536}
REUSING = {M_TRIM_THRESHOLD: -1, M_MMAP_MAX: 0}
"""Never give memory back, and take none by mmap, which gives it back at every free."""
CACHED = 2**19
"""Numbers that arithmetic works on at a time on a CPU: three tensors of so many float32 take 6 MiB of the cache that cores
share. A step of PGD on 32 images of 128x128 took 1.2 ms in such parts, 1.5 in quarters of them, which fit a core's own cache,
and 1.3 in one part (two cores, median of 21, the cache emptied before each)."""
_open_blocks: list[None] = []
"""One entry for each block that is entered and not left."""


@contextmanager
def reused_memory() -> Iterator[None]:
    """Keeps freed memory in the process inside the block, and gives it back to the system at its end.

    By default glibc returns each large tensor to the system when it is freed and takes fresh pages for the next one,
    which the kernel must clear: a quarter of the time of a pass of EfficientNet-B0 at batch 32. The process keeps the
    peak of its memory meanwhile; of blocks inside one another the outermost counts. Outside of Linux with glibc the
    block changes nothing.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    _open_blocks.append(None)
    _set(libc, REUSING)
    try:
        yield
    finally:
        _open_blocks.pop()
        if not _open_blocks:
            give_memory_back()


def give_memory_back() -> None:
    """Gives freed memory back to the system, and all that is freed from now on, until a `reused_memory` begins.

    What is kept for later lies in pieces, and a tensor larger than each of them finds no place among them.
    """
    if (libc := _glibc()) is not None:
        _set(libc, DEFAULTS)
        libc.malloc_trim(0)


@contextmanager
def scarce_memory() -> Iterator[None]:
    """Gives freed memory back at once inside the block, also in `reused_memory`: a process takes less at most, and more time."""
    give_memory_back()
    try:
        yield
    finally:
        if _open_blocks and (libc := _glibc()) is not None:
            _set(libc, REUSING)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collects no garbage inside the block, for blocks that make thousands of objects and keep them all.

    The number of new objects starts a collection, see `quick_garbage_collection`.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def quick_garbage_collection() -> Iterator[None]:
    """Leaves the objects that exist at the beginning out of the collections of garbage inside the block.

    A full collection visits every object of the process; with torch imported it takes a quarter of a second. Of blocks inside one
    another the outermost counts. Where a caller has frozen objects before, the block changes nothing; objects frozen inside are
    unfrozen at the end. Garbage that exists at the beginning is collected after the end.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def leave_garbage() -> None:
    """Leaves all objects to the end of the process, which else takes 0.2 s and more to look for circles among them."""
    gc.freeze()


def laid_out_as(values: Tensor, x: Tensor) -> Tensor:
    """Returns `values` (N, C, H, W) laid out in memory as `x`, of the same shape; without a copy where they are already."""
    import torch  # here, as verbs that compute nothing import this module

    return values if values.stride() == x.stride() else torch.empty_like(x).copy_(values)


def cached_parts(*batches: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yields batches of one length a few rows at a time on a CPU, so that such a part stays in the cache.

    An operation on a whole batch of images takes them from main memory and writes them back, which is slower than the
    arithmetic. On other devices there is one part.
    """
    count, numbers = len(batches[0]), batches[0].numel()
    rows = max(1, CACHED * count // max(1, numbers)) if batches[0].device.type == "cpu" else max(1, count)
    return zip(*(batch.split(rows) for batch in batches), strict=True)


def _set(libc: ctypes.CDLL, parameters: Mapping[int, int]) -> None:
    for parameter, value in parameters.items():
        libc.mallopt(parameter, value)


def _glibc() -> ctypes.CDLL | None:
    """Returns the C library if it is glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
