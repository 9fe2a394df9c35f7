"""Damaged files of weights: one line that names the file, and no memory for what was never written."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from harness.errors import ModelError
from harness.models.h5 import MOST_PIXELS, read_h5, save_h5
from harness.models.timm import Timm
from harness.models.weights import read_weights


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "net.h5"
    classifier = Timm(arch="test_efficientnet").build(("a", "b"), resolution=32, seed=0)
    save_h5(classifier, path, arch="test_efficientnet", resolution=32, summary={})
    return path


def _attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def _declared(name: str, shape: tuple[int, ...], dtype: str) -> Callable[[h5py.File], None]:
    def declare(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file.create_dataset(name, shape=shape, dtype=dtype, chunks=(1,) * len(shape))

    return declare


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (_attribute("resolution", np.inf), "cannot convert float infinity"),
        (_attribute("resolution", -1), "a resolution of -1"),
        (_attribute("resolution", MOST_PIXELS + 1), f"a resolution of {MOST_PIXELS + 1}"),
        (_attribute("schema_version", np.inf), "cannot convert float infinity"),
        (_attribute("mean", np.full(3, np.nan)), "a mean or std"),
        (_attribute("summary", 2_000 * "["), "maximum recursion depth"),
        (_declared("weights/huge", (2**20, 2**20), "f4"), r"weights/huge of shape .* of which 0 bytes are stored"),
        (_declared("class_names", (2**30,), "S8"), "class_names of shape"),
    ],
)
def test_damaged_h5_is_refused_by_name(edit: Callable[[h5py.File], None], found: str, saved: Path, tmp_path: Path) -> None:
    (path := tmp_path / "net.h5").write_bytes(saved.read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    for read in (read_h5, read_weights):
        with pytest.raises(ModelError, match=f"net.h5: expected a classifier in HDF5.*{found}"):
            read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_pth_is_refused_by_name_wherever_it_is_damaged(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.ones(4, 3), "b": torch.ones(7)}, path, _use_new_zipfile_serialization=zipped)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole))])
        damaged[rng.integers(len(damaged))] ^= 255
        path.write_bytes(damaged)
        refused += _is_refused_by_name(path)
    assert refused > 50


@pytest.mark.parametrize("content", [b"", b"\x80\x02.", b"<html>", b"PK\x03\x04"])
def test_file_that_is_no_pth_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.pth: expected"):
        read_weights(path)


def _is_refused_by_name(path: Path) -> bool:
    """Tells whether a file is refused by its name; nothing else may be raised, and what is read may be whole."""
    try:
        read_weights(path)
    except ModelError as error:
        return str(error).startswith(f"{path}: expected")
    return False
