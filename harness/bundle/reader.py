"""Reads a bundle: everything but images and logits is validated at once; these are validated batch by batch."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from harness.bundle.heaps import expect_finite_heaps
from harness.bundle.schema import (
    SCHEMA_VERSION,
    BundleCondition,
    check_counts,
    check_images,
    check_labels,
    check_logits,
    from_stored,
)
from harness.errors import DataError
from harness.spec import parse_eps, parse_spec
from harness.system.messages import shown

LARGEST_RATIO = 1032
"""Largest compression ratio of deflate: a file that declares more images than that is incomplete."""

DAMAGE = (OSError, LookupError, AttributeError, TypeError, ValueError, RuntimeError, ArithmeticError, MemoryError)
"""What h5py raises on a missing, damaged or foreign file, and what reading its values does."""
EPS_TOLERANCE = 1e-9
"""Largest relative difference of a budget's text from its number."""


class StoredBatch(NamedTuple):
    """Consecutive examples of a condition."""

    x: NDArray[np.float32]
    """Images (B, C, H, W)."""
    y: NDArray[np.int64]
    """True class indices (B,)."""
    logits: NDArray[np.float32] | None
    """Reference logits (B, K), if stored."""


@dataclass(frozen=True)
class StoredCondition:
    """A condition in a file."""

    spec: BundleCondition
    n: int
    """Number of examples."""
    shape: tuple[int, int, int]
    """Channels, height, width."""
    has_logits: bool
    """Whether reference logits are stored."""


@dataclass(frozen=True)
class Bundle:
    """The validated contents of a bundle, without the images."""

    path: Path
    model: str
    """The model's label."""
    model_sha256: str
    """Hash of the weights that gave the reference logits."""
    dataset: str
    class_names: tuple[str, ...]
    conditions: tuple[StoredCondition, ...]
    """In the order in which they were written."""

    def condition(self, name: str) -> StoredCondition:
        """Returns the condition of a name.

        Raises:
            DataError: if there is no such condition.
        """
        for condition in self.conditions:
            if condition.spec.name == name:
                return condition
        known = ", ".join(condition.spec.name for condition in self.conditions)
        raise DataError(f"{self.path}: expected a condition from {known}, got {name!r}")

    def rows(self, name: str) -> NDArray[np.int64]:
        """Returns, for each example of a condition, its row (N,) in the condition that `clean` names."""
        stored = self.condition(name)
        with _opened(self.path) as file:
            return _rows(_group(file["conditions"], name, f"{self.path}: /conditions"), stored.n)

    def batches(self, name: str, size: int) -> Iterator[StoredBatch]:
        """Yields a condition in batches of `size` examples.

        Raises:
            DataError: if the condition does not exist, its data is damaged, a pixel is not in [0,1], or a logit is NaN.
        """
        stored = self.condition(name)
        place = f"{self.path}: /conditions/{name}"
        with _opened(self.path) as file:
            group = file["conditions"][name]
            for start in range(0, stored.n, size):
                rows = slice(start, start + size)
                x, y = _native(group["x"][rows]), _native(group["y"][rows])
                check_images(x, place)
                logits = _native(group["logits"][rows]) if stored.has_logits else None
                if logits is not None:
                    check_logits(logits, (len(x), len(self.class_names)), place)
                yield StoredBatch(x, y, logits)


def read_bundle(path: Path) -> Bundle:
    """Returns the contents of a file, all validated but the values of images and logits.

    Raises:
        DataError: if the file is not a bundle of this schema version, or is damaged; the message says where.
    """
    with _opened(path) as file:
        return contents_of(file, path)


def contents_of(file: h5py.File, path: Path) -> Bundle:
    """Returns the validated contents of an open file; see `read_bundle`. Error messages name `path`."""
    version = from_stored(file.attrs.get("schema_version"))
    if version != SCHEMA_VERSION:
        raise DataError(f"{path}: attribute schema_version: expected {SCHEMA_VERSION}, got {version}")
    root = f"{path}: "
    names, stored = _dataset(file, "class_names", root), _group(file, "conditions", root)
    check_counts(classes=len(names), conditions=len(stored), place=str(path))
    class_names = tuple(name.decode() for name in names[:])
    found = [_group(stored, name, f"{root}/conditions") for name in stored]
    groups = sorted(found, key=lambda group: int(group.attrs["position"]))
    _check_room(file, groups, path)
    conditions = tuple(_stored(group, len(class_names), f"{path}: {group.name}") for group in groups)
    shape = conditions[0].shape
    for condition in conditions:
        if condition.shape != shape:
            raise DataError(f"{path}: /conditions/{condition.spec.name}/x: expected images of {shape}, got {condition.shape}")
        if condition.spec.clean is not None:
            _check_pairing(file["conditions"], condition, f"{path}: /conditions/{condition.spec.name}")
    label, sha256, dataset = (from_stored(file.attrs[name]) for name in ("model", "model_sha256", "dataset"))
    return Bundle(path, label, sha256, dataset, class_names, conditions)


def _stored(group: h5py.Group, classes: int, place: str) -> StoredCondition:
    fields = {name: from_stored(value) for name, value in group.attrs.items() if name not in {"position", "eps", "eps_text"}}
    fields |= {"name": group.name.rpartition("/")[2], "eps": _budget(group, place)}
    spec = parse_spec(BundleCondition, fields, where=place, error=DataError)
    x, logits = _dataset(group, "x", place), _dataset(group, "logits", place) if "logits" in group else None
    if x.ndim != 4 or not _is(x, np.float32) or not x.size:
        raise DataError(f"{place}/x: expected float32 of shape (N, C, H, W), none of them 0, got {x.dtype} {x.shape}")
    if x.nbytes > LARGEST_RATIO * group.file.id.get_filesize():
        raise DataError(f"{place}/x: expected at most as many images as the file has room for, got {len(x)}")
    check_labels(_native(group["y"][:]), len(x), classes, place=place)
    if logits is not None and (logits.shape != (len(x), classes) or not _is(logits, np.float32)):
        raise DataError(f"{place}/logits: expected float32 of shape {(len(x), classes)}, got {logits.dtype} {logits.shape}")
    if spec.target_class is not None and spec.target_class >= classes:
        raise DataError(f"{place}: attribute target_class: expected 0 to {classes - 1}, got {spec.target_class}")
    return StoredCondition(spec, n=len(x), shape=x.shape[1:], has_logits=logits is not None)


def _check_pairing(groups: h5py.Group, stored: StoredCondition, place: str) -> None:
    """Checks that `clean` names a clean condition with the same labels."""
    wanted = stored.spec.clean
    clean = groups.get(wanted)
    if clean is None or from_stored(clean.attrs["kind"]) != "clean":
        raise DataError(f"{place}: attribute clean: expected the name of a condition of kind clean, got {wanted!r}")
    group, available = groups[stored.spec.name], len(clean["y"])
    rows = _rows(group, stored.n)
    if rows.shape != (stored.n,) or rows.dtype != np.int64 or rows.min() < 0 or rows.max() >= available:
        raise DataError(f"{place}/rows: expected {stored.n} int64 rows below {available}, the length of {wanted!r}")
    if (clean["y"][:][rows] != group["y"][:]).any():
        raise DataError(f"{place}/y: expected the labels of {wanted!r}, got others")


def _check_room(file: h5py.File, groups: Sequence[h5py.Group], path: Path) -> None:
    """Checks that the file is large enough for its declared labels and rows, which are stored uncompressed.

    A file may declare data that was never written, and link one data set from many places.
    """
    numbers = [_dataset(group, name, f"{path}: {group.name}") for group in groups for name in ("y", "rows") if name in group]
    wanted, room = sum(found.size for found in numbers), file.id.get_filesize() // np.dtype(np.int64).itemsize
    if wanted > room:
        raise DataError(f"{path}: expected at most as many labels and rows as the file has room for, {room}, got {wanted}")


def _group(parent: h5py.Group, name: str, where: str) -> h5py.Group:
    return _own(parent, name, where, h5py.Group)


def _dataset(parent: h5py.Group, name: str, where: str) -> h5py.Dataset:
    found = _own(parent, name, where, h5py.Dataset)
    if found.is_virtual or found.external is not None:
        raise DataError(f"{where}/{name}: expected values in the file itself, got some elsewhere")
    return found


def _own(parent: h5py.Group, name: str, where: str, kind: type) -> Any:
    """Returns an object of the file itself, and refuses a link, which could lead to another file."""
    link, place = parent.get(name, getlink=True), f"{where}/{name}"
    if link is not None and not isinstance(link, h5py.HardLink):
        raise DataError(f"{place}: expected an object of the file itself, got a link elsewhere")
    if not isinstance(found := parent[name], kind):
        raise DataError(f"{place}: expected a {kind.__name__.lower()}, got a {type(found).__name__.lower()}")
    return found


def _rows(group: h5py.Group, n: int) -> NDArray[np.int64]:
    return _native(group["rows"][:]) if "rows" in group else np.arange(n, dtype=np.int64)


def _budget(group: h5py.Group, place: str) -> object:
    """Returns the budget as it is written: the exact text, else the number, which the text must agree with."""
    number, text = from_stored(group.attrs.get("eps")), from_stored(group.attrs.get("eps_text"))
    if number is None or text is None:
        return number if text is None else text
    try:
        eps = parse_eps(text)
    except ValueError:  # `BundleCondition` refuses it, with its place
        return text
    if not math.isclose(float(eps), float(number), rel_tol=EPS_TOLERANCE):
        raise DataError(f"{place}: attribute eps: expected {shown(text)}, as in eps_text, got {shown(number)}")
    return eps


def _is(found: h5py.Dataset, wanted: type[np.generic]) -> bool:
    """Tells whether a data set has a type, in either byte order."""
    return bool(found.dtype.newbyteorder("=") == wanted)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Returns values in the machine's byte order; a file may have either."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Yields an open file, and turns h5py's errors for a missing, damaged or foreign file into a DataError of one line."""
    try:
        expect_finite_heaps(path)
        with h5py.File(path, "r") as file:
            yield file
    except DAMAGE as error:
        raise DataError(f"{path}: expected a readable bundle, got {type(error).__name__}: {error}") from error
