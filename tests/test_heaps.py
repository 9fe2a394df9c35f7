"""Damage that HDF5's library would read for ever."""

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from harness.bundle.attacked import read_attacked
from harness.bundle.heaps import HEAP, OBJECT_HEADER, expect_finite_heaps
from harness.bundle.reader import read_bundle
from harness.errors import HarnessError
from harness.models.h5 import read_h5, save_h5
from tests.nets import small_convnet
from tests.test_bundle import write
from tests.training.cases import classifier


def saved(path: Path) -> Path:
    save_h5(classifier(small_convnet(10)), path, arch="resnet18", resolution=16, summary={"text": "long" * 500})
    return path


def with_text(path: Path) -> Path:
    """Any HDF5 file with a text of its own length in an attribute."""
    with h5py.File(path, "w") as file:
        file.attrs["model"] = "pgd"
        file["x"] = np.zeros((1, 3, 4, 4), np.float32)
    return path


def damage(path: Path, *, index: int | None, size: int) -> None:
    """Gives the first object of the first heap, or the free space behind all, another size."""
    content = bytearray(path.read_bytes())
    place = content.index(HEAP) + OBJECT_HEADER
    while index is None and (number := struct.unpack_from("<H", content, place)[0]):
        assert number
        place += OBJECT_HEADER + (struct.unpack_from("<Q", content, place + 8)[0] + 7) // 8 * 8
    struct.pack_into("<Q", content, place + 8, size)
    path.write_bytes(content)


@pytest.mark.parametrize("read", [read_h5, read_bundle, read_attacked])
@pytest.mark.parametrize(("index", "size"), [(None, 0), (1, 2**64 - 16), (1, 2**64 - 1), (1, 10**6)])
def test_heap_without_end_is_refused(read: Callable[[Path], object], index: int | None, size: int, tmp_path: Path) -> None:
    path = with_text(tmp_path / "given.h5")
    damage(path, index=index, size=size)
    with pytest.raises(HarnessError, match=r"given\.h5.*a heap at byte") as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1


def test_sound_files_pass(tmp_path: Path) -> None:
    write(tmp_path / "bundle.h5")
    for path in (saved(tmp_path / "net.h5"), tmp_path / "bundle.h5", with_text(tmp_path / "text.h5")):
        expect_finite_heaps(path)
    with h5py.File(tmp_path / "many.h5", "w", libver="latest", userblock_size=1024) as file:
        for number in range(300):
            file.attrs[f"text {number}"] = "text" * number
            if number % 3 == 0:
                del file.attrs[f"text {number}"]
        file["texts"] = np.array(["a" * 5000, "b", ""], dtype=h5py.string_dtype())
    expect_finite_heaps(tmp_path / "many.h5")
    assert read_h5(tmp_path / "net.h5").arch == "resnet18"


def test_heaps_within_heaps_are_refused_before_their_objects_are_walked_again_and_again(tmp_path: Path) -> None:
    path, heap = with_text(tmp_path / "given.h5"), 4096
    start = path.stat().st_size
    piece = HEAP + bytes(3) + struct.pack("<Q", 0)
    content = bytearray(piece * (2 * heap // len(piece)))
    for place in range(0, len(content), len(piece)):
        if len(content) - place >= heap:  # each says that it reaches to the end
            struct.pack_into("<Q", content, place + 8, len(content) - place)
    path.write_bytes(path.read_bytes() + bytes(content))
    assert path.stat().st_size > start
    with pytest.raises(ValueError, match="a heap at byte"):
        expect_finite_heaps(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_no_hdf5_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "given.h5"
    path.write_bytes(content)
    for read in (read_h5, read_bundle, read_attacked):
        with pytest.raises(HarnessError, match=r"given\.h5"):
            read(path)
