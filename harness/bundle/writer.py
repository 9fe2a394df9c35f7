"""Writes a bundle batch by batch: memory holds one batch, for any number of examples."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from harness.bundle.reader import contents_of
from harness.bundle.schema import (
    SCHEMA_VERSION,
    BundleCondition,
    Compression,
    check_counts,
    check_images,
    check_labels,
    check_logits,
    to_stored,
)
from harness.errors import DataError

CHUNK_BYTES = 512 * 1024
"""Desired size of a chunk in bytes: one 224 x 224 image, or many small ones."""
MOST_ROWS = 256
"""Largest number of examples in a chunk: a chunk has its full size in the file, even for few labels."""

FILTERS: dict[Compression, dict[str, Any]] = {
    # docs/performance.md compares their sizes and speeds.
    "lzf": {"compression": "lzf"},
    "gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "none": {},
}
WORTHWHILE = 0.8
"""Largest compressed share of their size for which images are compressed: a smaller gain costs more time than it saves."""
TRIED = 8
"""Number of images of a condition on which compression is tried."""


class ConditionWriter:
    """Appends examples to one condition; made by `BundleWriter.condition`."""

    def __init__(self, group: h5py.Group, classes: int, compression: Compression) -> None:
        """See the class."""
        self._group, self._classes, self._compression = group, classes, compression
        self._places: dict[int, int] = {}
        self.n = 0

    def append(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        logits: NDArray[np.float32] | None = None,
        *,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Adds a batch of any size; an example whose row was added before takes the place of the earlier one.

        Args:
            x: Images (B, C, H, W), float32, in [0,1].
            y: True class indices (B,), int64.
            logits: PyTorch's logits (B, K), float32, without NaN; given for every batch or for none.
            rows: Rows (B,) of these examples in the condition that `clean` names; given for every batch or for none.

        Raises:
            DataError: if an array has another shape or type, a logit that is NaN, or a pixel or label out of range.
        """
        place = str(self._group.name)
        check_images(x, place)
        check_labels(y, len(x), self._classes, place=place)
        if logits is not None:
            check_logits(logits, (len(x), self._classes), place)
        given: dict[str, NDArray[Any] | None] = {"x": x, "y": y, "logits": logits, "rows": rows}
        arrays = {name: array for name, array in given.items() if array is not None}
        if self.n and set(self._group) != set(arrays):
            raise DataError(f"{place}: expected {', '.join(self._group)} in every batch, got {', '.join(sorted(arrays))}")
        known = np.array([row in self._places for row in ([] if rows is None else rows.tolist())], dtype=bool)
        if rows is not None and known.any():
            places = np.array([self._places[row] for row in rows[known].tolist()])
            self._replace(places, {name: array[known] for name, array in arrays.items()})
            arrays = {name: array[~known] for name, array in arrays.items()}
        for name, array in arrays.items() if len(arrays["x"]) else ():
            self._extend(name, array)
        added = [] if rows is None else rows[~known].tolist()
        self._places.update({row: self.n + number for number, row in enumerate(added)})
        self.n += len(arrays["x"])

    def _replace(self, places: NDArray[np.int64], arrays: Mapping[str, NDArray[Any]]) -> None:
        order = np.argsort(places)  # h5py takes rising places only
        for name, array in arrays.items():
            self._group[name][places[order]] = array[order]

    def _extend(self, name: str, array: NDArray[Any]) -> None:
        shape = array.shape[1:]
        if name not in self._group:
            rows_a_chunk = min(MOST_ROWS, max(1, CHUNK_BYTES // max(1, array.itemsize * int(np.prod(shape)))))
            self._group.create_dataset(
                name,
                shape=(0, *shape),
                maxshape=(None, *shape),
                chunks=(rows_a_chunk, *shape),
                dtype=array.dtype,
                **(filters_for(array[:TRIED], self._compression) if name == "x" else {}),
            )
        data = self._group[name]
        if data.shape[1:] != shape:
            raise DataError(f"{data.name}: expected examples of shape {data.shape[1:]}, got {shape}")
        data.resize(self.n + len(array), axis=0)
        data[self.n :] = array


def filters_for(x: NDArray[np.float32], compression: Compression) -> dict[str, Any]:
    """Returns the filters of a data set whose first images are `x` (B, C, H, W): none if compression gains too little."""
    with h5py.File("trial", "w", driver="core", backing_store=False) as file:
        trial = file.create_dataset("x", data=x, chunks=x.shape, **FILTERS[compression])
        file.flush()
        compressed = trial.id.get_storage_size()
    return FILTERS[compression] if compressed <= WORTHWHILE * x.nbytes else {}


class BundleWriter:
    """Writes a bundle; after a block without an error, the file is validated and gets its name.

    Args:
        path: The file to write.
        class_names: The K class names, in the order of the logits.
        model: The model's label.
        model_sha256: Hash of the weights that gave the logits.
        dataset: Name of the data set.
        compression: The compression of the images of each condition where it gains enough; see `FILTERS` and `WORTHWHILE`.
    """

    def __init__(
        self,
        path: Path,
        *,
        class_names: Sequence[str],
        model: str,
        model_sha256: str,
        dataset: str = "",
        compression: Compression = "lzf",
    ) -> None:
        """See the class."""
        check_counts(classes=len(class_names), conditions=1, place=str(path))
        self._path, self._compression = path, compression
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._class_names = tuple(class_names)
        self._root = {"schema_version": SCHEMA_VERSION, "model": model, "model_sha256": model_sha256, "dataset": dataset}

    def __enter__(self) -> Self:
        """Opens a temporary file beside the target."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._temporary, "w")
        self._file.attrs.update({name: to_stored(value) for name, value in self._root.items()})
        self._file["class_names"] = np.array([to_stored(name) for name in self._class_names])
        self._file.create_group("conditions")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Validates and renames the finished file, or removes it after an error."""
        try:
            with self._file:
                if kind is None:
                    self._file.flush()
                    contents_of(self._file, self._path)
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def condition(self, spec: BundleCondition) -> Iterator[ConditionWriter]:
        """Yields the writer of the next condition.

        Raises:
            DataError: if the name is taken or no example was appended.
        """
        conditions = self._file["conditions"]
        if spec.name in conditions:
            raise DataError(f"{self._path}: the condition {spec.name!r} is written twice")
        position = len(conditions)
        group = conditions.create_group(spec.name)
        eps = {} if spec.eps is None else {"eps": float(spec.eps), "eps_text": str(spec.eps)}
        attributes = {"position": position, **spec.model_dump(exclude={"name", "eps"}, exclude_none=True), **eps}
        group.attrs.update({name: to_stored(value) for name, value in attributes.items()})
        writer = ConditionWriter(group, len(self._class_names), self._compression)
        yield writer
        if not writer.n:
            raise DataError(f"{self._path}: expected examples in the condition {spec.name!r}, got none")
