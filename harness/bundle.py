"""Bundles: one model's stored inputs, labels and PyTorch logits, in one HDF5 file that any other runtime can score.

Layout, schema version 1:

    /                       attributes schema_version, model, model_sha256, dataset
    /class_names            (K,) fixed-length UTF-8
    /conditions/<name>      attributes position, kind, digest and, where they apply, attack, norm, eps (float64),
                            eps_text ("8/255"), target_class, clean
    /conditions/<name>/x       (N, C, H, W) float32 in [0,1], chunked, compressed
    /conditions/<name>/y       (N,) int64
    /conditions/<name>/logits  (N, K) float32, absent where there is no reference
    /conditions/<name>/rows    (N,) int64, the row of `clean` that each example is; absent: the same row

`clean` names the condition that holds the same examples unperturbed: the clean images are stored once, and a reader
takes from there the ball's centre and the set of initially correct examples.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.errors import DataError
from harness.spec import Eps, Spec, parse_spec
from harness.threat import Norm

SCHEMA_VERSION = 1
"""Version of the layout above; a reader refuses any other."""

CHUNK_BYTES = 512 * 1024
"""Aim for the size of a chunk of images: one 224 x 224 image, or many small ones."""

Kind = Literal["clean", "attack", "corruption", "trigger", "rounded8bit", "jpeg"]
Compression = Literal["lzf", "gzip", "none"]

FILTERS: dict[Compression, dict[str, Any]] = {
    # Measured on 224 x 224 photographs (multiples of 1/255) and PGD's images: lzf alone 2.0 and 1.5 times smaller at
    # 200 MB/s, gzip-1 behind the byte shuffle 1.6 and 1.35 times at 95 MB/s. Shuffling parts the repeating 4-byte words.
    "lzf": {"compression": "lzf"},
    "gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "none": {},
}


class BundleCondition(Spec):
    """What one group of a bundle holds: the images that one cell of the grid was scored on."""

    name: str = Field(pattern=r"^[^/\s.][^/]*$", max_length=200)
    """The group's name, unique in the bundle; no "/"."""
    kind: Kind
    """How the images came to be; the ball is checked for `attack` only, as rounding and re-encoding leave it."""
    digest: str = ""
    """Digest of the cell."""
    attack: str | None = None
    """Label of the attack, corruption or trigger."""
    norm: Norm | None = None
    """Norm of the budget."""
    eps: Eps | None = None
    """Budget in pixel units of [0,1]."""
    target_class: int | None = Field(default=None, ge=0)
    """The class aimed at: success is reaching it, counted over examples of other classes."""
    clean: str | None = None
    """Name of the condition that holds the same examples unperturbed."""


@dataclass(frozen=True)
class StoredCondition:
    """A condition as found in a file."""

    spec: BundleCondition
    n: int
    """Number of examples."""
    shape: tuple[int, int, int]
    """Channels, height, width."""
    has_logits: bool
    """Whether reference logits are stored."""


class Batch(NamedTuple):
    """Consecutive examples of a condition."""

    x: NDArray[np.float32]
    """Images (B, C, H, W)."""
    y: NDArray[np.int64]
    """True class indices (B,)."""
    logits: NDArray[np.float32] | None
    """Reference logits (B, K), if stored."""


@dataclass(frozen=True)
class Bundle:
    """The validated contents of a bundle, without the images."""

    path: Path
    model: str
    """The model's label."""
    model_sha256: str
    """Hash of the weights that the reference logits come from."""
    dataset: str
    class_names: tuple[str, ...]
    conditions: tuple[StoredCondition, ...]
    """In the order they were written."""

    def condition(self, name: str) -> StoredCondition:
        """Returns the condition of that name.

        Raises:
            DataError: if there is none.
        """
        for condition in self.conditions:
            if condition.spec.name == name:
                return condition
        known = ", ".join(condition.spec.name for condition in self.conditions)
        raise DataError(f"{self.path}: expected a condition from {known}, got {name!r}")

    def batches(self, name: str, size: int) -> Iterator[Batch]:
        """Streams a condition, `size` examples at a time.

        Raises:
            DataError: if the condition does not exist or its data is damaged.
        """
        stored = self.condition(name)
        with _open(self.path) as file, _damage_named(self.path):
            group = file["conditions"][name]
            for start in range(0, stored.n, size):
                rows = slice(start, start + size)
                yield Batch(group["x"][rows], group["y"][rows], group["logits"][rows] if stored.has_logits else None)


class ConditionWriter:
    """Appends examples to one condition; made by `BundleWriter.condition`."""

    def __init__(self, group: h5py.Group, classes: int, compression: Compression) -> None:
        """See the class."""
        self._group, self._classes, self._compression = group, classes, compression
        self.n = 0

    def append(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        logits: NDArray[np.float32] | None = None,
        *,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Adds a batch of any size.

        Args:
            x: Images (B, C, H, W), float32, finite.
            y: True class indices (B,), int64.
            logits: PyTorch's logits (B, K), float32, finite; given for every batch or for none.
            rows: Rows (B,) of these examples in the condition named by `clean`; given for every batch or for none.

        Raises:
            DataError: if an array has another shape or type, a value that is not finite, or a label out of range.
        """
        place = self._group.name
        _check_images(x, place)
        _check_labels(y, len(x), self._classes, place)
        arrays: dict[str, NDArray[Any]] = {"x": x, "y": y}
        if logits is not None:
            _check_logits(logits, (len(x), self._classes), place)
            arrays["logits"] = logits
        if rows is not None:
            arrays["rows"] = np.asarray(rows, dtype=np.int64)
        if self.n and set(self._group) != set(arrays):
            raise DataError(f"{place}: expected {', '.join(sorted(self._group))} in every batch, got {', '.join(sorted(arrays))}")
        for name, array in arrays.items():
            self._extend(name, array)
        self.n += len(x)

    def _extend(self, name: str, array: NDArray[Any]) -> None:
        if name not in self._group:
            per_example = max(1, array.itemsize * int(np.prod(array.shape[1:])))
            chunks = (max(1, CHUNK_BYTES // per_example), *array.shape[1:])
            filters = FILTERS[self._compression] if name == "x" else {}
            self._group.create_dataset(
                name, shape=(0, *array.shape[1:]), maxshape=(None, *array.shape[1:]), chunks=chunks, dtype=array.dtype, **filters
            )
        data = self._group[name]
        if data.shape[1:] != array.shape[1:]:
            raise DataError(f"{data.name}: expected examples of shape {data.shape[1:]}, got {array.shape[1:]}")
        data.resize(self.n + len(array), axis=0)
        data[self.n :] = array


class BundleWriter:
    """Writes a bundle as a stream; the file gets its name on leaving without an error, or never.

    Args:
        path: The file to write.
        class_names: The K class names, in the order of the logits.
        model: The model's label.
        model_sha256: Hash of the weights that the logits come from.
        dataset: Name of the data set.
        compression: Of the images; see `FILTERS`.
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
        if not class_names:
            raise DataError(f"{path}: expected at least one class name, got none")
        self._path, self._compression = path, compression
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._class_names = tuple(class_names)
        self._root = {"schema_version": SCHEMA_VERSION, "model": model, "model_sha256": model_sha256, "dataset": dataset}

    def __enter__(self) -> Self:
        """Opens a temporary file beside the target."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._temporary, "w")
        _set_attributes(self._file, self._root)
        self._file["class_names"] = np.array([_text(name) for name in self._class_names])
        self._file.create_group("conditions")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Validates and renames the finished file; removes it after an error."""
        self._file.close()
        try:
            if kind is None:
                read_bundle(self._temporary)
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def condition(self, spec: BundleCondition) -> Iterator[ConditionWriter]:
        """Opens the next condition.

        Raises:
            DataError: if the name is taken or no example was appended.
        """
        conditions = self._file["conditions"]
        if spec.name in conditions:
            raise DataError(f"{self._path}: the condition {spec.name!r} is written twice")
        group = conditions.create_group(spec.name)
        eps = {} if spec.eps is None else {"eps": float(spec.eps), "eps_text": str(spec.eps)}
        plain = spec.model_dump(exclude={"name", "eps"}, exclude_none=True)
        _set_attributes(group, {"position": len(conditions) - 1, **plain, **eps})
        writer = ConditionWriter(group, len(self._class_names), self._compression)
        yield writer
        if not writer.n:
            raise DataError(f"{self._path}: expected examples in the condition {spec.name!r}, got none")


def read_bundle(path: Path) -> Bundle:
    """Reads and validates everything but the images and logits.

    Raises:
        DataError: if the file is no bundle of this schema version, or is damaged; the message names the place.
    """
    with _open(path) as file, _damage_named(path):
        version = file.attrs.get("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(f"{path}: attribute schema_version: expected {SCHEMA_VERSION}, got {version}")
        class_names = tuple(name.decode() for name in file["class_names"][:])
        groups = sorted(file["conditions"].values(), key=lambda group: int(group.attrs["position"]))
        if not groups:
            raise DataError(f"{path}: expected at least one condition, got none")
        conditions = tuple(_stored(path, group, len(class_names)) for group in groups)
        for condition in conditions:
            _check_pairing(path, file["conditions"], condition)
        label, sha256, dataset = (file.attrs[name].decode() for name in ("model", "model_sha256", "dataset"))
    return Bundle(path, label, sha256, dataset, class_names, conditions)


def _stored(path: Path, group: h5py.Group, classes: int) -> StoredCondition:
    plain = {name: _plain(value) for name, value in group.attrs.items() if name not in {"position", "eps", "eps_text"}}
    fields = {"name": group.name.rpartition("/")[2], **plain, "eps": _plain(group.attrs.get("eps_text"))}
    place = f"{path}: {group.name}"
    spec = parse_spec(BundleCondition, fields, where=place, error=DataError)
    x, y, logits = group["x"], group["y"], group.get("logits")
    if x.ndim != 4 or x.dtype != np.float32 or not x.size:
        raise DataError(f"{place}/x: expected float32 of shape (N, C, H, W), none empty, got {x.dtype} {x.shape}")
    _check_labels(y[:], len(x), classes, place)
    if logits is not None and (logits.shape != (len(x), classes) or logits.dtype != np.float32):
        raise DataError(f"{place}/logits: expected float32 {(len(x), classes)}, got {logits.dtype} {logits.shape}")
    if spec.target_class is not None and spec.target_class >= classes:
        raise DataError(f"{place}: attribute target_class: expected less than {classes} classes, got {spec.target_class}")
    return StoredCondition(spec, n=len(x), shape=x.shape[1:], has_logits=logits is not None)


def _check_pairing(path: Path, groups: h5py.Group, stored: StoredCondition) -> None:
    """Checks that `clean` names a clean condition with the same images' shape and the same labels."""
    if stored.spec.clean is None:
        return
    place = f"{path}: /conditions/{stored.spec.name}"
    clean = groups.get(stored.spec.clean)
    if clean is None or _plain(clean.attrs["kind"]) != "clean":
        raise DataError(f"{place}: attribute clean: expected a condition of kind clean, got {stored.spec.clean!r}")
    group = groups[stored.spec.name]
    rows = group["rows"][:] if "rows" in group else np.arange(stored.n)
    if rows.shape != (stored.n,) or rows.min() < 0 or rows.max() >= len(clean["y"]):
        raise DataError(f"{place}: expected {stored.n} rows of {stored.spec.clean!r}, which has {len(clean['y'])}")
    if clean["x"].shape[1:] != stored.shape or (clean["y"][:][rows] != group["y"][:]).any():
        raise DataError(f"{place}: expected the examples of {stored.spec.clean!r}, got other labels or another image size")


def _check_images(x: NDArray[np.float32], place: str) -> None:
    if x.ndim != 4 or x.dtype != np.float32:
        raise DataError(f"{place}/x: expected float32 of shape (N, C, H, W), got {x.dtype} {x.shape}")
    if not np.isfinite(x).all():
        raise DataError(f"{place}/x: expected finite values, got NaN or infinity")


def _check_labels(y: NDArray[np.int64], n: int, classes: int, place: str) -> None:
    if y.shape != (n,) or y.dtype != np.int64:
        raise DataError(f"{place}/y: expected int64 of shape {(n,)}, got {y.dtype} {y.shape}")
    if n and (y.min() < 0 or y.max() >= classes):
        raise DataError(f"{place}/y: expected labels from 0 to {classes - 1}, got {y.min()} to {y.max()}")


def _check_logits(logits: NDArray[np.float32], shape: tuple[int, int], place: str) -> None:
    if logits.shape != shape or logits.dtype != np.float32:
        raise DataError(f"{place}/logits: expected float32 of shape {shape}, got {logits.dtype} {logits.shape}")
    if not np.isfinite(logits).all():
        raise DataError(f"{place}/logits: expected finite values, got NaN or infinity")


def _text(value: str) -> np.bytes_:
    """Fixed-length UTF-8: readers without a garbage-collected heap, and damaged files, are safer with it."""
    return np.bytes_(value.encode())


def _set_attributes(target: h5py.Group, values: dict[str, Any]) -> None:
    for name, value in values.items():
        target.attrs[name] = _text(value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: expected an HDF5 file, got {error}") from error


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turns what h5py raises on a damaged or foreign file into one line."""
    try:
        yield
    except (OSError, KeyError, AttributeError, UnicodeDecodeError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable bundle: {error}") from error
