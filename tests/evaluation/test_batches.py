import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from harness.datasets.image_folder import FileSplit
from harness.datasets.tensors import TensorSplit
from harness.datasets.verified import VerifiedSplit
from harness.errors import DataError
from harness.evaluation.batches import (
    STAGE_BATCH_LIMIT,
    SplitBatch,
    batches,
    forward_and_backward,
    stage_batch_size,
)
from harness.images import View, reads_files
from harness.system.device import CPU_BATCH


class Deaf(nn.Module):
    """Logits that do not depend on the image: of a parameter, or of nothing."""

    def __init__(self, *, trainable: bool) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.ones(4), requires_grad=trainable)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), 4)


class Stepped(nn.Module):
    """Whole numbers, as a quantised network gives: no gradient passes them."""

    def forward(self, x: Tensor) -> Tensor:
        return (255 * x).long().flatten(1)[:, :4]


@pytest.mark.parametrize("network", [Deaf(trainable=True), Deaf(trainable=False), Stepped()])
def test_network_without_a_differentiable_path_is_passed_forward_only(network: nn.Module) -> None:
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    forward_and_backward(network, x)
    assert x.grad is None


def test_differentiable_network_is_passed_back_too(net: nn.Module) -> None:
    passed: list[Tensor] = []
    x = torch.rand(2, 3, 12, 12, requires_grad=True)
    x.register_hook(passed.append)
    forward_and_backward(net, x)
    assert [gradient.shape for gradient in passed] == [x.shape]


def test_rows_of_a_batch_are_copies_unless_a_mask_takes_all() -> None:
    batch = SplitBatch(torch.arange(4), torch.rand(4, 3, 2, 2), torch.arange(4))
    assert batch.at(torch.ones(4, dtype=torch.bool)) is batch
    for rows in (torch.tensor([True, False, False, True]), torch.tensor([0, 3])):
        some = batch.at(rows)
        assert some.indices.tolist() == some.y.tolist() == [0, 3]
        assert torch.equal(some.x, batch.x[[0, 3]])
    assert batch.at(torch.arange(4)).x.data_ptr() != batch.x.data_ptr()
    assert len(batch.at(torch.zeros(4, dtype=torch.bool))) == 0


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)), STAGE_BATCH_LIMIT),
        (nn.Sequential(nn.Conv2d(3, 512, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 64),
        (nn.Sequential(nn.Conv2d(3, 2048, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), CPU_BATCH),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), CPU_BATCH),
    ],
    ids=["small", "wide", "large", "keeps nothing"],
)
def test_small_networks_get_large_batches_for_the_stages_of_an_ensemble(network: nn.Module, expected: int) -> None:
    split = TensorSplit(torch.rand(2, 3, 40, 40), torch.tensor([0, 1]))
    with torch.no_grad():
        network(split[0][0][None])
    network.eval().requires_grad_(False)
    assert {stage_batch_size(network, split) for _ in range(3)} == {expected}


def photographs(folder: Path, count: int) -> FileSplit:
    generator = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    ids, hashes = [f"{number}.png" for number in range(count)], ["0" * 64] * count
    return FileSplit(folder, ids=ids, labels=np.arange(count), hashes=hashes, resolution=8, resize="squash")


def test_files_are_decoded_in_threads_and_come_as_they_do_one_by_one(tmp_path: Path) -> None:
    split, seen = photographs(tmp_path, 7), set()
    verified = VerifiedSplit(View(split, np.array([5, 3, 1, 0, 2, 4, 6])))
    assert reads_files(verified)
    for batch, expected in zip(batches(verified, 3, "cpu"), ([5, 3, 1], [0, 2, 4], [6]), strict=True):
        assert batch.y.tolist() == expected
        assert torch.equal(batch.x, torch.stack([split[index][0] for index in expected]))
        seen |= {thread.name for thread in threading.enumerate() if thread is not threading.current_thread()}
    assert any(name.startswith("ThreadPool") for name in seen)


def test_damaged_file_is_one_error_and_threads_end_with_their_reader(tmp_path: Path) -> None:
    split, before = photographs(tmp_path, 9), threading.active_count()
    (tmp_path / "7.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"7\.png"):
        list(batches(split, 2, "cpu"))
    reading = batches(split, 2, "cpu")
    next(reading)
    reading.close()
    assert threading.active_count() == before


def test_images_in_memory_are_read_without_threads() -> None:
    assert not reads_files(View(TensorSplit(torch.rand(3, 3, 4, 4), torch.arange(3)), np.arange(3)))
