"""Files of attacked images from elsewhere: how much of one is read before it is known to be one."""

from pathlib import Path

import numpy as np
import pytest

from harness.bundle import attacked
from harness.bundle.attacked import read_attacked
from harness.errors import DataError


def written(folder: Path, x: np.ndarray) -> Path:
    names = np.array([f"{place:064d}" for place in range(len(x))])
    np.savez_compressed(folder / "images.npz", x=x, content_hash=names, model="pgd", norm="Linf", eps="8/255")
    return folder / "images.npz"


def test_arrays_out_of_proportion_to_the_file_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacked, "NPZ_FREE", 2**16)
    path = written(tmp_path, np.zeros((64, 3, 64, 64), np.float32))
    assert path.stat().st_size * attacked.NPZ_RATIO < 64 * 3 * 64 * 64 * 4
    with pytest.raises(DataError, match=r"images\.npz: expected arrays of .* bytes at most"):
        read_attacked(path)


def test_images_of_an_ordinary_file_are_read_in_their_order(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((5, 3, 8, 8), dtype=np.float32)
    found = read_attacked(written(tmp_path, x))
    assert len(found) == 5
    assert (found.head.model, float(found.head.eps)) == ("pgd", 8 / 255)
    np.testing.assert_array_equal(np.concatenate([part for _, part in found.batches(2)]), x)
