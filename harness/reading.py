"""Many images of a split at once: decoding a photograph leaves Python to other threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from harness.images import ImageSplit, is_thread_safe

Example = TypeVar("Example")
Read = TypeVar("Read")


def read_images(split: ImageSplit, indices: Sequence[int]) -> Tensor:
    """Returns the images (n, C, H, W) at some positions of a split, at least one."""
    return torch.stack(read_each(lambda index: split[index][0], indices, split=split))


def read_each(read: Callable[[Example], Read], examples: Sequence[Example], *, split: ImageSplit) -> list[Read]:
    """Returns what `read` makes of each example, in their order.

    A thread-safe split is read by as many threads as torch computes with, which is one in a loader's worker process. Each of
    them computes with one: threads that shared the work on one image would take the cores from those that read another.
    """
    computing = torch.get_num_threads()
    reading = min(computing, len(examples)) if is_thread_safe(split) else 1
    if reading < 2:
        return [read(example) for example in examples]
    try:
        with ThreadPoolExecutor(reading, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(read, examples))
    finally:
        torch.set_num_threads(computing)  # what one thread sets counts for all that begin later
