"""One contract for every registered data set, shipped or not, on small sources and without a network."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision import datasets as source

from harness.cli.fields import said_below
from harness.datasets import torchvision
from harness.datasets.base import DATASETS, Dataset
from harness.datasets.image_folder import FolderDataset
from harness.images import SPLITS
from tests.conftest import MakeFolder

SIDE = 16


def _downloaded(channels: tuple[int, ...], folder: Path, *, train: bool, download: bool) -> SimpleNamespace:
    count = 40 if train else 20
    pixels = torch.randint(256, (count, 28, 28, *channels), generator=torch.Generator().manual_seed(count), dtype=torch.uint8)
    return SimpleNamespace(data=pixels if not channels else pixels.numpy(), targets=torch.arange(count) % 10)


@pytest.fixture(params=DATASETS.names())
def dataset(request: pytest.FixtureRequest, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dataset:
    monkeypatch.setattr(torchvision, "DEBIAN_FOLDER", tmp_path / "absent")
    monkeypatch.setattr(source, "FashionMNIST", lambda *args, **flags: _downloaded((), *args, **flags))
    monkeypatch.setattr(source, "CIFAR10", lambda *args, **flags: _downloaded((3,), *args, **flags))
    root = {"root": str(make_folder())} if issubclass(DATASETS.get(request.param), FolderDataset) else {}
    return DATASETS.parse({"name": request.param, "resolution": SIDE, **root})


def test_data_set_keeps_the_contract(dataset: Dataset) -> None:
    data = dataset.load()
    assert data.name == dataset.name
    assert tuple(data.splits) == SPLITS
    names: list[str] = []
    for split in data.splits.values():
        assert 0 < len(split) == len(split.labels) == len(split.ids) == len(split.hashes)
        assert set(split.labels.tolist()) <= set(range(len(data.class_names)))
        for index in (0, len(split) - 1):
            image, label = split[index]
            assert (image.shape, image.dtype, label) == ((3, SIDE, SIDE), torch.float32, split.labels[index])
            assert 0 <= image.min() <= image.max() <= 1
        names += split.ids
    assert len(set(names)) == len(names)
    assert dataset.load().content_hash == data.content_hash


def test_data_set_describes_its_fields_and_keeps_its_place_out_of_its_identity(dataset: Dataset) -> None:
    fields = type(dataset).model_fields
    assert not [
        field for field, info in fields.items() if field != "name" and not (info.description or said_below(type(dataset), field))
    ]
    assert set(dataset.identity()) - {"version"} == set(fields) - dataset.PATH_FIELDS


def test_data_set_tells_its_classes_without_loading(dataset: Dataset) -> None:
    assert dataset.look() == dataset.load().class_names


def test_finished_model_is_judged_on_test_images_or_the_remark_says_otherwise(dataset: Dataset) -> None:
    held, test = dataset.load_held(), dataset.load().splits["test"]
    assert list(held.split.ids) == list(test.ids)
    assert bool(held.remark) == (dataset.name == "digits")
