"""What a data set is here: splits of streamed RGB images with labels, class names and a content hash."""

from __future__ import annotations

import stat
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.system.messages import decodable

if TYPE_CHECKING:
    from torch import Tensor


SPLITS = ("train", "validation", "test")
MAX_PIXELS = 89_478_485
"""Most pixels of an image that is decoded: those of which Pillow warns, a quarter of a gibibyte in RGB. `harness_eval` has the
same limit (`kMaxPixels`)."""
KINDS = {stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading; what is none is not opened: a FIFO waits for ever, a device may have no end.

    Raises:
        OSError: if there is none, or it may not be read.
        DataError: if it, or what it links to, is no regular file.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        found = next((name for is_kind, name in KINDS.items() if is_kind(mode)), "a folder")
        raise DataError(f"expected a regular file, got {found}")
    return path.open("rb")


def composed(name: str) -> str:
    """Returns a class name in the one form in which names are compared: accents are one character with their letter (NFC).

    A byte of a folder's name that is no UTF-8 becomes an escape, as no table could hold it.
    """
    return unicodedata.normalize("NFC", decodable(name))


def misread(place: int, class_names: Sequence[str]) -> str | None:
    """Returns what is wrong with a number for a class that is the place of one and the name of another; else None.

    Folders named 0, 1, 2, 10 are sorted 0, 1, 10, 2.
    """
    name = str(place)
    if name not in class_names or not 0 <= place < len(class_names) or class_names.index(name) == place:
        return None
    other = class_names[place]
    return (
        f'expected the name of a class as a text, "{name}" or "{other}", got the number {name}, which is the name of one and '
        f"the place of the other"
    )


class ImageSplit(Protocol):
    """One split: random access to images that are decoded when asked for, so memory stays flat."""

    labels: NDArray[np.int64]
    """Class index of every example, shape (N,)."""
    ids: Sequence[str]
    """A readable, unique name of every example: a relative path or "digits/0007"."""
    hashes: Sequence[str]
    """sha256 of every example's content (the encoded file, or the raw pixels), as hexadecimal digits."""

    def __len__(self) -> int:
        """Returns the number of examples N."""
        ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns one image, float32 (3, resolution, resolution) in [0,1], and its class index."""
        ...


@runtime_checkable
class DetailedSplit(Protocol):
    """A split whose sources may hold more detail than its resolution shows."""

    def read_detailed(self, index: int, side: int) -> Tensor:
        """Returns one image as `ImageSplit` gives it, but up to `side` pixels wide and high where there is more detail."""
        ...


def read_detailed(split: ImageSplit, index: int, side: int) -> Tensor:
    """Returns one image of a split, up to `side` pixels wide and high where its source has more detail than it gives."""
    return split.read_detailed(index, side) if isinstance(split, DetailedSplit) else split[index][0]


def reads_files(split: ImageSplit) -> bool:
    """Returns whether a split decodes files, and changes nothing when it is read, so that several threads may read it at once."""
    return bool(getattr(split, "reads_files", False))


class View:
    """Some examples of a split, in a given order, without copying an image.

    Args:
        split: The split that is looked at.
        indices: Positions in `split`, shape (M,).
    """

    def __init__(self, split: ImageSplit, indices: NDArray[np.int64]) -> None:
        """See the class."""
        self.split = split
        self.indices = indices
        self.reads_files = reads_files(split)
        self.labels: NDArray[np.int64] = split.labels[indices]
        self.ids: Sequence[str] = [split.ids[index] for index in indices]
        self.hashes: Sequence[str] = [split.hashes[index] for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """See `ImageSplit`."""
        return self.split[int(self.indices[index])]

    def read_detailed(self, index: int, side: int) -> Tensor:
        """See `DetailedSplit`."""
        return read_detailed(self.split, int(self.indices[index]), side)


class Source(Protocol):
    """The files that a data set was read from."""

    def changed(self) -> list[str]:
        """Returns the ids of the images whose files were written, or removed, since they were read."""
        ...


@dataclass(frozen=True)
class ImageData:
    """A loaded data set."""

    name: str
    class_names: tuple[str, ...]
    splits: Mapping[str, ImageSplit]
    """The splits "train", "validation" and "test"."""
    content_hash: str
    """sha256 over class names, and ids, labels and hashes of every split: changes when any image changes."""
    cross_split_duplicates: int
    """Number of validation and test examples whose content also occurs in another split before them."""
    source: Source | None = None
    """The files that images are decoded from whenever they are asked for, where there are any."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Split -> files in it that were taken for no images, where there are any."""
