from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset

from harness.datasets.mapped import MappedSplit
from harness.datasets.tensors import TensorSplit, split_of
from harness.errors import DataError

X = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(X, Y, strict=True))


class Noise(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(3, 4, 4), 0


def test_float_images_come_back_as_they_are() -> None:
    split = TensorSplit(X, Y)
    assert len(split) == 6
    assert torch.equal(split[4][0], X[4])
    assert split[4][1] == 1
    assert split.labels.dtype == np.int64


def test_byte_images_become_shares_of_white() -> None:
    split = TensorSplit(torch.full((2, 1, 3, 3), 51, dtype=torch.uint8), [0, 1])
    assert torch.allclose(split[0][0], torch.full((1, 3, 3), 0.2))
    assert TensorSplit(torch.full((2, 3, 3, 3), 51, dtype=torch.uint8), [0, 1], resolution=8)[1][0].shape == (3, 8, 8)


def test_doubles_become_single_precision() -> None:
    assert TensorSplit(X.double(), Y)[0][0].dtype == torch.float32


def test_hashes_tell_images_apart_and_know_equal_ones() -> None:
    images = X.clone()
    images[3] = images[0]
    hashes = TensorSplit(images, Y).hashes
    assert hashes[0] == hashes[3]
    assert len(set(hashes)) == 5
    assert hashes[1] == TensorSplit(X, Y).hashes[1]


def test_hashes_tell_shapes_apart() -> None:
    flat = torch.zeros(1, 1, 2, 8)
    assert TensorSplit(flat, [0]).hashes != TensorSplit(flat.view(1, 1, 4, 4), [0]).hashes


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (X * 255, r"expected values in \[0,1\], got .* to 25"),
        (X - 0.5, r"expected values in \[0,1\], got -0\.4.*mean and std belong inside the model"),
        (X.where(X < 0.9, torch.nan), r"expected values in \[0,1\], got nan"),
        (X.int(), "expected uint8, or floating point"),
        (X[0], r"expected the shape \(N, C, H, W\) with N >= 1, got \(3, 4, 4\)"),
        (X[:0], r"with N >= 1, got \(0, 3, 4, 4\)"),
    ],
)
def test_other_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TensorSplit(images, Y[: len(images)])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y[:5], r"each of 6 images, got the shape \(5,\)"),
        (Y.float(), "expected whole numbers >= 0, got float32"),
        (Y - 1, "expected whole numbers >= 0, got int64 from -1"),
        (torch.eye(6), r"got the shape \(6, 6\)"),
    ],
)
def test_other_labels_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TensorSplit(X, labels)


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        [X.numpy(), Y.numpy()],
        (X, Y.tolist()),
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), batch_size=4),
        DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True),
        DataLoader(TensorDataset(X, Y), batch_size=None),
        Stream(),
        DataLoader(Stream(), batch_size=4),
        TensorSplit(X, Y),
    ],
)
def test_every_form_of_the_same_data_gives_the_same_split(data: object) -> None:
    split = split_of(data)
    assert split.labels.tolist() == Y.tolist()
    assert list(split.hashes) == list(TensorSplit(X, Y).hashes)
    assert torch.equal(torch.stack([split[index][0] for index in range(len(split))]), X)


def test_loader_chooses_the_examples() -> None:
    data = TensorDataset(X, Y)
    assert split_of(DataLoader(data, sampler=[4, 1])).labels.tolist() == [1, 1]
    assert sorted(split_of(DataLoader(data, sampler=SubsetRandomSampler([0, 3, 5]))).labels.tolist()) == [0, 0, 2]
    assert len(split_of(DataLoader(data, batch_size=4, drop_last=True))) == 4
    assert split_of(DataLoader(Subset(data, [2, 3]), shuffle=True)).labels.tolist() == [2, 0]


def test_loader_with_its_own_collate_function_is_understood() -> None:
    def from_dicts(rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        return torch.stack([row["image"] for row in rows]), torch.tensor([row["label"] for row in rows])

    rows: Any = [{"image": image, "label": int(label)} for image, label in zip(X, Y, strict=True)]
    split = split_of(DataLoader(rows, collate_fn=from_dicts))
    assert split.labels.tolist() == Y.tolist()
    assert torch.equal(split[5][0], X[5])


def test_map_style_data_is_not_kept_in_memory() -> None:
    split = split_of(TensorDataset(X, Y))
    assert isinstance(split, MappedSplit)
    assert not any(isinstance(value, Tensor) for value in vars(split).values())


def test_shuffling_does_not_touch_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    split_of(DataLoader(TensorDataset(X, Y), shuffle=True))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("data", [TensorDataset(X * 2, Y), DataLoader(Subset(TensorDataset(X * 2, Y), [0]))])
def test_images_of_a_data_set_outside_the_bounds_are_refused(data: object) -> None:
    with pytest.raises(DataError, match=r"expected values in \[0,1\]"):
        split_of(data)


def test_data_set_that_draws_anew_at_each_read_is_refused() -> None:
    with pytest.raises(DataError, match=r"the same image whenever an example is read.*turn augmentation off"):
        split_of(Noise())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, r"expected a DataLoader, a Dataset or a pair \(images, labels\), got Tensor"),
        ((X, Y, Y), r"expected a pair \(images, labels\), got tuple of 3"),
        (TensorDataset(X), r"data\[0\]: expected a pair"),
        (TensorDataset(X[:0], Y[:0]), "expected at least one example, got none"),
        (DataLoader(TensorDataset(X, Y), sampler=[]), "expected at least one example, got none"),
        (("images", "labels"), "data: expected images and labels as tensors or arrays"),
    ],
)
def test_other_data_is_refused(data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_of(data)


def test_examples_that_cannot_be_collated_are_named() -> None:
    class Files(Dataset[tuple[object, int]]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[object, int]:
            return object(), 0

    with pytest.raises(DataError, match=r"data\[0\]: expected an image tensor and a label"):
        split_of(Files())
