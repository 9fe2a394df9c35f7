import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.corruptions.base import CORRUPTIONS
from harness.corruptions.stream import CorruptedSplit
from harness.datasets.augment import Augment
from harness.datasets.image_folder import FileSplit, read_class_folders
from harness.datasets.loading import evaluation_batches, training_batches
from harness.datasets.splits import Joined, take
from harness.datasets.tensors import TensorSplit
from harness.errors import DataError
from harness.images import ImageSplit, is_thread_safe
from harness.poisoning.splits import Overlay, Selection
from harness.reading import read_each, read_images
from tests.conftest import MakeFolder

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Watched(TensorSplit):
    """Notes which threads read it."""

    thread_safe = False

    def __init__(self) -> None:
        super().__init__(IMAGES, range(6))
        self.threads: list[int] = []

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.threads.append(threading.get_ident())
        return super().__getitem__(index)


class Meeting(Watched):
    """Gives an image out only while another thread waits for one too."""

    thread_safe = True

    def __init__(self) -> None:
        super().__init__()
        self.two = threading.Barrier(2, timeout=20)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.two.wait()
        return super().__getitem__(index)


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def folder(make_folder: MakeFolder) -> FileSplit:
    return read_class_folders(make_folder(splits={"": 5}), ("Leek", "Onion"), resolution=8)


VIEWS: dict[str, Callable[[ImageSplit], ImageSplit]] = {
    "taken": lambda split: take(split, [2, 0, 1]),
    "joined": lambda split: Joined(split, split),
    "overlay": lambda split: Overlay(split, np.array([1]), labels=np.array([0]), hashes=["x"]),
    "selection": lambda split: Selection(split, np.array([0, 2])),
    "corrupted": lambda split: CorruptedSplit(CORRUPTIONS.parse({"name": "brightness"}), split, severity=1, seed=0),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_is_as_thread_safe_as_what_it_looks_at(view: Callable[[ImageSplit], ImageSplit]) -> None:
    assert is_thread_safe(view(Meeting()))
    assert not is_thread_safe(view(Watched()))
    assert not is_thread_safe(view(TensorSplit(IMAGES, range(6))))


def test_a_joined_split_is_as_thread_safe_as_its_weaker_part() -> None:
    assert not is_thread_safe(Joined(Meeting(), Watched()))


def test_images_are_read_at_the_same_time_and_given_in_order() -> None:
    assert torch.equal(read_images(Meeting(), [5, 0, 3, 1]), IMAGES[[5, 0, 3, 1]])


def test_batches_of_training_and_evaluation_are_read_at_the_same_time() -> None:
    still = Augment(flip=False, rotation=0, translation=0, scale=0)
    for loader in (
        training_batches(Meeting(), augment=still, batch_size=2, seed=0, epoch=0, workers=0),
        evaluation_batches(Meeting(), batch_size=2, workers=0),
    ):
        batches = list(loader)
        assert all(torch.equal(x, IMAGES[y]) for x, y in batches)
        assert sorted(int(label) for _, y in batches for label in y) == list(range(6))


def test_a_split_that_does_not_say_so_is_read_by_one_thread() -> None:
    split = Watched()
    assert torch.equal(read_images(split, range(6)), IMAGES)
    assert set(split.threads) == {threading.get_ident()}


def test_readers_compute_with_one_thread_and_nobody_else_does() -> None:
    split = Meeting()
    inside = read_each(lambda index: (split[index], torch.get_num_threads())[1], range(2), split=split)
    started_later: list[int] = []
    thread = threading.Thread(target=lambda: started_later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (inside, torch.get_num_threads(), started_later) == ([1, 1], 2, [2])


def test_a_process_that_computes_with_one_thread_reads_with_it() -> None:
    torch.set_num_threads(1)
    split = Watched()
    split.thread_safe = True
    read_images(split, range(6))
    assert set(split.threads) == {threading.get_ident()}


def test_photographs_are_the_same_however_many_threads_read_them(make_folder: MakeFolder) -> None:
    split = folder(make_folder)
    together = read_images(split, range(10))
    torch.set_num_threads(1)
    assert torch.equal(together, read_images(split, range(10)))


def test_a_photograph_that_has_gone_is_named(make_folder: MakeFolder) -> None:
    split = folder(make_folder)
    lost = Path(split.root) / split.ids[7]
    lost.unlink()
    with pytest.raises(DataError, match=str(lost)):
        read_images(split, range(10))
