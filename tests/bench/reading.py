"""Milliseconds to read a photograph, decoded and resized, and augmented as for training: one by one, and by the harness."""

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median
from unittest.mock import patch

from PIL import Image
from torch.utils.data import default_collate

from harness.console import show_table, stderr
from harness.datasets.augment import Augment
from harness.datasets.image_folder import ImageFolder
from harness.datasets.loading import AugmentedExamples
from harness.images import ImageSplit
from harness.reading import read_each
from tests.bench.subjects import PHOTOGRAPHS

SIDE, BATCH, COUNT, TURNS = 224, 32, 192, 5
AUGMENT = Augment(crop=0.2, rotation=15, brightness=0.3, contrast=0.3)
"""That of the suite grocery_vegetables."""
SERIAL = patch("harness.reading.is_thread_safe", lambda _: False)


def show_reading(_: argparse.Namespace) -> None:
    """Measures and prints."""
    if not PHOTOGRAPHS.is_dir():
        stderr.print(f"reading: left out, there are no photographs in {PHOTOGRAPHS}")
        return
    data = ImageFolder(root=str(PHOTOGRAPHS), resolution=SIDE).load()
    train, test = data.splits["train"], data.splits["test"]
    augmented = AugmentedExamples(train, AUGMENT, seed=0)
    ways: dict[str, Callable[[range], object]] = {
        "of the test split": lambda batch: default_collate(read_each(lambda index: test[index], batch, split=test)),
        "of the training split, augmented": lambda batch: default_collate(augmented.__getitems__([(1, i, 0) for i in batch])),
    }
    rows = [[name, *_row(read)] for name, read in ways.items()]
    columns = ["photograph", "one by one, ms", "harness, ms", "times faster"]
    show_table(f"Reading photographs of {_pixels(test)} to {SIDE}x{SIDE}", columns, rows)


def _row(read: Callable[[range], object]) -> list[str]:
    serial, together = [], []
    for _ in range(TURNS):
        with SERIAL:
            serial.append(_milliseconds(read))
        together.append(_milliseconds(read))
    return [f"{median(serial):.2f}", f"{median(together):.2f}", f"{median(serial) / median(together):.2f}"]


def _milliseconds(read: Callable[[range], object]) -> float:
    started = time.perf_counter()
    for batch in _batches():
        read(batch)
    return 1000 * (time.perf_counter() - started) / COUNT


def _batches() -> Iterator[range]:
    return (range(start, start + BATCH) for start in range(0, COUNT, BATCH))


def _pixels(split: ImageSplit) -> str:
    with Image.open(PHOTOGRAPHS / split.ids[0]) as image:
        return f"{image.width}x{image.height} pixels"
