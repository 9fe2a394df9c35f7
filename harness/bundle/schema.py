"""The layout of a bundle, and the checks that writing and reading share.

Layout, schema version 1:

    /                       attributes schema_version, model, model_sha256, dataset
    /class_names            (K,) fixed-length UTF-8
    /conditions/<name>      attributes position, kind, digest and, where they apply, attack, norm, eps (float64),
                            eps_text ("8/255"), target_class, clean
    /conditions/<name>/x       (N, C, H, W) float32 in [0,1], chunked, compressed
    /conditions/<name>/y       (N,) int64
    /conditions/<name>/logits  (N, K) float32, absent without a reference
    /conditions/<name>/rows    (N,) int64, each example's row in `clean`; absent: the same row

`clean` names the condition with the same examples unperturbed: clean images are stored once, and a reader takes the ball's
centre and the initially correct examples from there. A `folder` has examples of its own. Text has a fixed length, so that
readers need no HDF5 heap, in which damage does most harm.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.errors import DataError
from harness.spec import Eps, Spec
from harness.threat import Norm

SCHEMA_VERSION = 1
"""Version of the layout above; a reader refuses any other."""

MOST_CLASSES = 10_000
"""A bound, as a confusion matrix has the square of this number of values."""
MOST_CONDITIONS = 1_000
BOUNDS_TOLERANCE = 1e-6
"""Largest distance of a pixel from [0,1], for rounding."""

Kind = Literal["clean", "attack", "corruption", "trigger", "rounded8bit", "jpeg", "folder"]
Compression = Literal["lzf", "gzip", "none"]


class BundleCondition(Spec):
    """One group of a bundle: the images of one cell of the grid."""

    name: str = Field(pattern=r"^[^/\s.][^/]*$", max_length=200)
    """The group's name, unique in the bundle; no "/"."""
    kind: Kind
    """How the images were made. Violations of the ball count for `attack` only, as rounding and re-encoding leave the ball.

    The other fields of a `rounded8bit` or `jpeg` are those of the condition that was rounded or re-encoded.
    """
    digest: str = ""
    """Digest of the cell."""
    attack: str | None = None
    """Label of the attack, corruption, trigger or folder."""
    norm: Norm | None = None
    """Norm of the budget."""
    eps: Eps | None = None
    """Budget in pixel units of [0,1]."""
    target_class: int | None = Field(default=None, ge=0)
    """The target class: success is a prediction of it, counted over examples of other classes."""
    clean: str | None = None
    """Name of the condition with the same examples unperturbed."""

    @property
    def attacked(self) -> bool:
        """Whether an attack or a trigger made its examples.

        Rounded or re-encoded examples have a budget or a target class if they were attacked before.
        """
        wanted = self.norm is not None or self.target_class is not None
        return self.kind in {"attack", "trigger"} or (self.kind in {"rounded8bit", "jpeg"} and wanted)


def check_images(x: NDArray[np.float32], place: str) -> None:
    """Checks images (N, C, H, W).

    Raises:
        DataError: if shape or type differ, or a value is not finite, or not in [0,1].
    """
    if x.ndim != 4 or x.dtype != np.float32:
        raise DataError(f"{place}/x: expected float32 of shape (N, C, H, W), got {x.dtype} {x.shape}")
    if not np.isfinite(x).all():
        raise DataError(f"{place}/x: expected finite values, got NaN or infinity")
    if x.size and (x.min() < -BOUNDS_TOLERANCE or x.max() > 1 + BOUNDS_TOLERANCE):
        raise DataError(f"{place}/x: expected values from 0 to 1, got {x.min():.6g} to {x.max():.6g}")


def check_counts(*, classes: int, conditions: int, place: str) -> None:
    """Checks how many classes and conditions there are.

    Raises:
        DataError: if there are none, or more than readers accept.
    """
    for count, most, what in ((classes, MOST_CLASSES, "class name"), (conditions, MOST_CONDITIONS, "condition")):
        if not 1 <= count <= most:
            found = count or "none"
            raise DataError(f"{place}: expected at least one {what} and at most {most}, got {found}")


def check_labels(y: NDArray[np.int64], n: int, classes: int, *, place: str) -> None:
    """Checks class indices (n,).

    Raises:
        DataError: if shape or type differ, or a label is out of range.
    """
    if y.shape != (n,) or y.dtype != np.int64:
        raise DataError(f"{place}/y: expected int64 of shape {(n,)}, got {y.dtype} {y.shape}")
    if n and (y.min() < 0 or y.max() >= classes):
        raise DataError(f"{place}/y: expected labels from 0 to {classes - 1}, got {y.min()} to {y.max()}")


def check_logits(logits: NDArray[np.float32], shape: tuple[int, int], place: str) -> None:
    """Checks reference logits (N, K); they may be infinite, as some networks give -inf to exclude a class.

    Raises:
        DataError: if shape or type differ, or a value is NaN.
    """
    if logits.shape != shape or logits.dtype != np.float32:
        raise DataError(f"{place}/logits: expected float32 of shape {shape}, got {logits.dtype} {logits.shape}")
    if np.isnan(logits).any():
        raise DataError(f"{place}/logits: expected finite values or infinities, got NaN")


def to_stored(value: Any) -> Any:
    """Returns a value as it is stored in an attribute: text as fixed-length UTF-8, other values unchanged."""
    return np.bytes_(value.encode()) if isinstance(value, str) else value


def from_stored(value: Any) -> Any:
    """Returns the plain Python value of an attribute."""
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value
