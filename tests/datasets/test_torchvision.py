import gzip
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision import datasets as source

from harness.datasets import torchvision
from harness.datasets.torchvision import CIFAR10, DEBIAN_FOLDER, FashionMNIST
from harness.errors import DataError


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, dtype=">i4").tobytes()
    path.write_bytes(gzip.compress(head + values.tobytes()))


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 40), ("t10k", 20)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def test_idx_files_become_rgb_splits_with_a_drawn_validation_split(idx_folder: Path) -> None:
    data = FashionMNIST(root=str(idx_folder), validation=0.25).load()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 30, "validation": 10, "test": 20}
    assert np.bincount(data.splits["validation"].labels).tolist() == [1] * 10
    assert data.splits["test"].ids[3] == "test/00003"
    assert data.splits["validation"].ids[0].startswith("train/")
    assert data.class_names[9] == "Ankle boot"


def test_images_are_the_stored_pixels_as_shares_of_white(idx_folder: Path) -> None:
    stored = gzip.decompress((idx_folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16 : 16 + 28 * 28]
    image, label = FashionMNIST(root=str(idx_folder), resolution=28).load().splits["test"][0]
    expected = torch.tensor(list(stored)).view(1, 28, 28).expand(3, 28, 28) / 255
    assert torch.allclose(image, expected)
    assert label == 0


def test_default_resolution_is_32(idx_folder: Path) -> None:
    assert FashionMNIST(root=str(idx_folder)).load().splits["train"][0][0].shape == (3, 32, 32)


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff\xff"])
def test_damaged_gzip_file_is_named(idx_folder: Path, content: bytes) -> None:
    (idx_folder / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"^dataset\.root: .*train-labels-idx1-ubyte\.gz: expected a"):
        FashionMNIST(root=str(idx_folder)).load()


def test_idx_file_with_fewer_values_than_it_promises_is_named(idx_folder: Path) -> None:
    path = idx_folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: .* got another or a truncated one"):
        FashionMNIST(root=str(idx_folder)).load()


def test_truncated_idx_file_is_named(idx_folder: Path) -> None:
    path = idx_folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: expected a gzipped idx file"):
        FashionMNIST(root=str(idx_folder)).load()


def test_idx_file_of_another_kind_is_named(idx_folder: Path) -> None:
    write_idx(idx_folder / "train-images-idx3-ubyte.gz", np.zeros(5, dtype=np.uint8))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: expected an idx file of bytes in 3 dimensions"):
        FashionMNIST(root=str(idx_folder)).load()


def test_labels_that_do_not_fit_the_images_are_refused(idx_folder: Path) -> None:
    write_idx(idx_folder / "train-labels-idx1-ubyte.gz", np.zeros(39, dtype=np.uint8))
    with pytest.raises(DataError, match="expected as many train images as labels, got 40 and 39"):
        FashionMNIST(root=str(idx_folder)).load()


def test_without_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Error downloading\nt10k")

    monkeypatch.setattr(source, "FashionMNIST", offline)
    monkeypatch.setattr(source, "CIFAR10", offline)
    for spec in (FashionMNIST(root=str(tmp_path)), CIFAR10(root=str(tmp_path))):
        with pytest.raises(DataError, match=r"\(Error downloading t10k\)\. Go online, or .* --set dataset\.root=") as error:
            spec.load()
        assert str(tmp_path) in str(error.value)


def test_downloads_go_to_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, bool]] = []

    def download(folder: Path, *, train: bool, download: bool) -> SimpleNamespace:
        asked.append((folder, download))
        count = 20 if train else 10
        pixels = np.full((count, 32, 32, 3), (255, 0, 51), dtype=np.uint8)
        return SimpleNamespace(data=pixels, targets=[index % 10 for index in range(count)])

    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(source, "CIFAR10", download)
    data = CIFAR10(validation=0.5).load()
    assert asked == [(tmp_path / "torchvision", True)] * 2
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 10, "validation": 10, "test": 10}
    assert data.splits["train"][0][0].mean(dim=(1, 2)).tolist() == pytest.approx([1.0, 0.0, 0.2])


def test_fashion_mnist_falls_back_to_torchvision_where_there_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(folder: Path, *, train: bool, download: bool) -> SimpleNamespace:
        count = 20 if train else 10
        return SimpleNamespace(data=torch.full((count, 28, 28), 102, dtype=torch.uint8), targets=torch.arange(count) % 10)

    monkeypatch.setattr(torchvision, "DEBIAN_FOLDER", tmp_path / "absent")
    monkeypatch.setattr(source, "FashionMNIST", download)
    image, _ = FashionMNIST(resolution=28).load().splits["test"][0]
    assert torch.allclose(image, torch.full((3, 28, 28), 0.4))


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason=f"needs Debian's package dataset-fashion-mnist in {DEBIAN_FOLDER}")
def test_debian_package_is_read_without_a_download() -> None:
    data = FashionMNIST().load()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 51000, "validation": 9000, "test": 10000}
    assert np.bincount(data.splits["test"].labels).tolist() == [1000] * 10


def test_place_of_the_data_stays_out_of_digests() -> None:
    assert "root" in FashionMNIST.PATH_FIELDS & CIFAR10.PATH_FIELDS
