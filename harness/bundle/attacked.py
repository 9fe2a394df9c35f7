"""Files of attacked images of one model under one budget: kept by a run, or made elsewhere.

Layout of an HDF5 file, schema version 1; a .npz file has the same names, the attributes as arrays without dimensions:

    /              attributes model (the label; label@poison@rate of a poisoned one), norm (Linf, L2, L1), eps ("8/255", or a
                   number); optional schema_version, attack, digest (of the cell whose images they are)
    /x             (N, 3, R, R) float32 or float64 in [0,1], in the order of the rows below
    /content_hash  (N,) text: sha256 of each example's content, as in samples.parquet
    /example_id    (N,) text: its name there
    /index         (N,) whole numbers: its place among the evaluated examples
    /label         (N,) int64, optional: its true class
    /prediction    (N,) int64, optional: what the model predicts on the image

One of content_hash, example_id and index is needed; more than one must agree. Nothing in a file is a pickle.
"""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile, ZipInfo

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.bundle.heaps import expect_finite_heaps
from harness.bundle.reader import DAMAGE, LARGEST_RATIO
from harness.bundle.schema import from_stored, to_stored
from harness.errors import DataError
from harness.spec import Eps, Spec, parse_spec
from harness.threat import Norm

NAMES = ("content_hash", "example_id", "index")
"""Data sets that say which examples the images are of."""
NUMBERS = ("label", "prediction")
"""Optional data sets of class indices."""
NPZ = ".npz"
NPZ_FREE, NPZ_RATIO = 256 * 2**20, 32
"""Bytes that the arrays of a .npz file may take whatever its size, and those for each byte of it."""
LONGEST_NAME = 1_000
"""Bytes of an example's name."""


class AttackedHead(Spec):
    """What a file says of its images."""

    schema_version: Literal[1] = 1
    """Version of the layout."""
    model: str = Field(min_length=1, max_length=300)
    """The model's name, as on the command line."""
    norm: Norm
    """Norm of the budget."""
    eps: Eps
    """Budget in pixel units of [0,1]."""
    attack: str | None = None
    """Label of the attack."""
    digest: str | None = None
    """Digest of the cell whose images they are."""


@dataclass(frozen=True)
class AttackedFile:
    """The contents of a file but for its images, which are read in parts."""

    path: Path
    head: AttackedHead
    shape: tuple[int, int, int]
    """Channels, height and width."""
    names: Mapping[str, NDArray[Any]]
    """Some of `NAMES` -> texts, or places (N,)."""
    numbers: Mapping[str, NDArray[np.int64]]
    """Some of `NUMBERS` -> class indices (N,)."""
    _x: NDArray[Any] | None = field(default=None, repr=False)
    """All images, of a .npz file."""

    def __len__(self) -> int:
        return len(next(iter(self.names.values())))

    def batches(self, size: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yields the images (n, C, H, W) in their order, with their places; values are as they are in the file.

        Raises:
            DataError: if the file is damaged.
        """
        with _opened(self.path) as file:
            x = file["x"] if self._x is None else self._x
            for start in range(0, len(self), size):
                rows = slice(start, min(start + size, len(self)))
                yield rows, np.asarray(x[rows], dtype=np.float32)


def read_attacked(path: Path) -> AttackedFile:
    """Returns the contents of a file of attacked images; their values are checked by who knows the originals.

    Raises:
        DataError: if it is none, is damaged, or lacks something; one line that says where.
    """
    with _opened(path) as file:
        x = _array(file, "x", path)
        head = _head(file, path)
        if x.ndim != 4 or not x.size or x.dtype.kind != "f" or x.dtype.itemsize not in (4, 8):
            raise DataError(f"{path}: x: expected float32 of shape (N, C, H, W), none of them 0, got {x.dtype} {tuple(x.shape)}")
        if x.nbytes > LARGEST_RATIO * path.stat().st_size:
            raise DataError(f"{path}: x: expected at most as many images as the file has room for, got {len(x)}")
        names = {name: _names(_array(file, name, path), name, len(x), path) for name in NAMES if name in file}
        if not names:
            raise DataError(
                f"{path}: expected content_hash, example_id or index, which say whose images they are, got none of them"
            )
        numbers = {name: _whole(_array(file, name, path), name, len(x), path) for name in NUMBERS if name in file}
        return AttackedFile(path, head, tuple(x.shape[1:]), names, numbers, None if isinstance(x, h5py.Dataset) else x)


def _head(file: Any, path: Path) -> AttackedHead:
    found: dict[str, Any] = {}
    for name in AttackedHead.model_fields:
        value = file.attrs.get(name) if isinstance(file, h5py.File) else file.get(name)
        if value is not None:
            array = np.asarray(value)
            if array.shape or array.dtype.kind not in "iufUS":
                raise DataError(f"{path}: {name}: expected one text or number, got {array.dtype} of shape {array.shape}")
            found[name] = from_stored(array[()])
    return parse_spec(AttackedHead, {name: _text(value) for name, value in found.items()}, where=str(path), error=DataError)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _array(file: Any, name: str, path: Path) -> Any:
    """Returns an array of a .npz file, or a data set of the HDF5 file itself."""
    if name not in file:
        raise DataError(f"{path}: expected {name}, found none of that name")
    if not isinstance(file, h5py.File):
        return file[name]
    found = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external is not None:
        raise DataError(f"{path}: {name}: expected a data set of the file itself, got something else")
    return found


def _names(found: Any, name: str, n: int, path: Path) -> NDArray[Any]:
    if name == "index":
        return _whole(found, name, n, path)
    if found.shape != (n,) or found.dtype.itemsize > 4 * LONGEST_NAME:
        raise DataError(f"{path}: {name}: expected a text for each of {n} images, got {found.dtype} {found.shape}")
    values = [value.decode() if isinstance(value, bytes) else value for value in found[:].tolist()]
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"{path}: {name}: expected texts, got {found.dtype}")
    return np.array(values, dtype=object)


def _whole(found: Any, name: str, n: int, path: Path) -> NDArray[np.int64]:
    if found.shape != (n,) or found.dtype.kind not in "iu":
        raise DataError(f"{path}: {name}: expected a whole number for each of {n} images, got {found.dtype} {found.shape}")
    return np.asarray(found[:], dtype=np.int64)


def _check_size(members: list[ZipInfo], path: Path) -> None:
    """Refuses a .npz file whose arrays, which are read whole, are out of all proportion to the file."""
    size, most = sum(member.file_size for member in members), NPZ_FREE + NPZ_RATIO * path.stat().st_size
    if size > most:
        raise DataError(
            f"{path}: expected arrays of {most:,} bytes at most for a file of its size, got {size:,}; HDF5 is read in parts"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yields an open file of either kind, and turns what damage leads to into a DataError of one line."""
    try:
        if path.suffix.lower() == NPZ:
            with np.load(path, allow_pickle=False) as arrays:
                _check_size(arrays.zip.infolist(), path)
                yield arrays
        else:
            expect_finite_heaps(path)
            with h5py.File(path, "r") as file:
                yield file
    except DataError:
        raise
    except (*DAMAGE, BadZipFile, EOFError, zlib.error) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: expected an HDF5 or .npz file of attacked images, got {type(error).__name__}: {said}"
        ) from error


class AttackedWriter:
    """Writes the images of one cell, in any order; an example that is written again takes the place of the earlier one.

    Args:
        file: An open HDF5 file, which is empty.
        head: What the file says of its images.
        n: Number of examples.
        shape: Channels, height and width.
    """

    def __init__(self, file: h5py.File, head: AttackedHead, n: int, shape: tuple[int, ...]) -> None:
        """See the class."""
        fields = head.model_dump(mode="json", exclude_none=True)
        file.attrs.update({name: to_stored(value) for name, value in fields.items()})
        options = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        self._file = file
        self._x = file.create_dataset("x", (n, *shape), dtype=np.float32, chunks=(1, *shape), **options)

    def write(self, rows: NDArray[np.int64], x: NDArray[np.float32]) -> None:
        """Writes the images (n, C, H, W) of the examples at some places (n,)."""
        for row, image in zip(rows.tolist(), x, strict=True):
            self._x[row] = image

    def read(self, rows: slice) -> NDArray[np.float32]:
        """Returns images that were written."""
        return np.asarray(self._x[rows], dtype=np.float32)

    def finish(self, **columns: Any) -> None:
        """Writes the columns: texts as fixed-length UTF-8, and whole numbers; and attributes that are single values."""
        for name, values in columns.items():
            texts = isinstance(values[0], str)
            array = np.array([value.encode() for value in values]) if texts else np.asarray(values, dtype=np.int64)
            self._file.create_dataset(name, data=array)
