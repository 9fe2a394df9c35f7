"""A folder of photographs, one folder a class: listed, checked and hashed on loading, decoded when they are read."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.datasets.base import DATASETS, HeldOut, expand_path, naming_root
from harness.datasets.build import image_data
from harness.datasets.checking import SoundFiles, sound_files
from harness.datasets.decoding import Resize, read_image, resized
from harness.datasets.layout import WHOLE, Layout, read_classes, read_layout, read_split_layout
from harness.datasets.shares import DrawsValidationAndTest, completed
from harness.errors import DataError
from harness.images import SPLITS, ImageData, ImageSplit, Source, composed
from harness.system.messages import decodable

if TYPE_CHECKING:
    from torch import Tensor


HELD = ("test", "validation")
"""The splits on which a finished model may be scored; the first one that exists is used."""
Found = TypeVar("Found")

logger = logging.getLogger(__name__)


class FileSplit:
    """Images in files, decoded each time they are read.

    Args:
        root: The folder to which the ids are relative.
        ids: Paths of the images, relative to `root`.
        labels: Class indices (N,).
        hashes: sha256 of each file.
        resolution: Side length of the returned images.
        resize: How an image becomes square.
        source: The stamps of the files, which show later changes.
    """

    def __init__(
        self,
        root: Path,
        *,
        ids: Sequence[str],
        labels: NDArray[np.int64],
        hashes: Sequence[str],
        resolution: int,
        resize: Resize,
        source: Source | None = None,
    ) -> None:
        """See the class."""
        self.root = root
        self.reads_files = True
        self._files = ids
        self.ids: Sequence[str] = [decodable(file) for file in ids]
        self.labels: NDArray[np.int64] = labels
        self.hashes: Sequence[str] = hashes
        self.resolution = resolution
        self.resize: Resize = resize
        self.source = source

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = read_image(self.root / self._files[index])
        return resized(pixels, self.resolution, self.resize), int(self.labels[index])

    def read_detailed(self, index: int, side: int) -> Tensor:
        """See `DetailedSplit`; the largest side is the file's shorter one, or the resolution if that is larger."""
        pixels = read_image(self.root / self._files[index])
        return resized(pixels, max(self.resolution, min(side, *pixels.shape[1:])), self.resize)


def read_class_folders(root: Path, class_names: Sequence[str], *, resolution: int, resize: Resize = "squash") -> FileSplit:
    """Returns photographs of known classes in `root/<Class>/`, read and checked; some classes may have none.

    Args:
        root: The folder.
        class_names: The classes, in the order of their indices.
        resolution: Side length of the returned images.
        resize: How an image becomes square.

    Raises:
        DataError: if the folder is missing or empty, a folder in it has the name of no class, or an image is damaged.
    """
    files = read_classes(root, class_names)
    sound = sound_files(root, _flat(files))
    return _split_of(root, files, sound.hashes, resolution=resolution, resize=resize, source=sound.source)


class FolderDataset(DrawsValidationAndTest, ABC):
    """Base of the data sets in folders of photographs."""

    PATH_FIELDS: ClassVar[frozenset[str]] = frozenset({"root"})

    resize: Resize = "squash"
    """How an image becomes square: "squash" scales the whole image, "crop" cuts out its largest centred square."""

    @abstractmethod
    def in_root(self, read: Callable[[Path], Found]) -> Found:
        """Returns the result of `read` on the data set's folder; its errors begin with the name of the field."""

    def load(self) -> ImageData:
        """See `Dataset.load`."""
        return self.in_root(self.load_from)

    def load_held(self) -> HeldOut:
        """Returns the test split, else the validation split, else all images of a folder without splits, read and checked.

        Raises:
            DataError: as `load`; also if there are only training images.
        """
        return self.in_root(self._held_from)

    def look(self) -> tuple[str, ...] | None:
        """See `Dataset.look`."""
        return self.in_root(self._look_at)

    def load_from(self, root: Path) -> ImageData:
        """Returns the data set in the folder `root`, read and checked.

        Raises:
            DataError: as `load`.
        """
        layout = read_layout(root)
        sound = sound_files(root, [file for classes in layout.files.values() for file in _flat(classes)])
        skipped = {split: sum(found.values()) for split, found in layout.skipped.items()}
        splits = self._splits(root, layout, sound)
        return image_data(self.name, layout.class_names, splits, source=sound.source, skipped=skipped)

    def _splits(self, root: Path, layout: Layout, sound: SoundFiles | None) -> dict[str, ImageSplit]:
        """Returns the three splits; without hashes if `sound` is None."""
        splits = self._as_split(root, layout, sound)
        return completed(splits, [("validation", self.validation), ("test", self.test)], self.seed)

    def _as_split(self, root: Path, layout: Layout, sound: SoundFiles | None) -> dict[str, ImageSplit]:
        """Returns the splits that the folder has."""
        splits: dict[str, ImageSplit] = {}
        first = 0
        for split, classes in layout.files.items():
            last = first + len(_flat(classes))
            hashes = [""] * (last - first) if sound is None else sound.hashes[first:last]
            splits[split] = _split_of(root, classes, hashes, resolution=self.resolution, resize=self.resize)
            first = last
        return splits

    def _look_at(self, root: Path) -> tuple[str, ...]:
        layout = read_layout(root)
        self._splits(root, layout, None)  # raises an error if a class has too few images to draw from
        return tuple(map(composed, layout.class_names))

    def _held_from(self, root: Path) -> HeldOut:
        layout = read_split_layout(root)
        split = _held_split(root, layout)
        classes = layout.files[split]
        sound = sound_files(root, _flat(classes))
        logger.info("%s: judged on %s", root, split if layout.has_splits else "all images")
        held = _split_of(root, classes, sound.hashes, resolution=self.resolution, resize=self.resize, source=sound.source)
        return HeldOut(held, tuple(map(composed, layout.class_names)))


def _held_split(root: Path, layout: Layout) -> str:
    """Returns the name of the split on which a finished model is scored."""
    split = next((name for name in HELD if name in layout.files), WHOLE)
    if layout.has_splits and split not in HELD:
        raise DataError(f"{root}: expected a folder test or validation for a finished model, found training images alone")
    return split


def _flat(classes: Sequence[Sequence[str]]) -> list[str]:
    return [file for files in classes for file in files]


def _split_of(
    root: Path,
    classes: Sequence[Sequence[str]],
    hashes: Sequence[str],
    *,
    resolution: int,
    resize: Resize,
    source: Source | None = None,
) -> FileSplit:
    """Returns the images of the classes, in the order of their indices."""
    return FileSplit(
        root,
        ids=_flat(classes),
        labels=np.repeat(np.arange(len(classes)), [len(files) for files in classes]),
        hashes=hashes,
        resolution=resolution,
        resize=resize,
        source=source,
    )


@DATASETS.register
class ImageFolder(FolderDataset):
    """Photographs in `root/train|validation|test/<Class>/`, or in `root/<Class>/` and divided by seed.

    Validation and test images without a folder are drawn from the training images, stratified by class. A finished model is
    scored on the test folder, else on the validation folder, or on all images of a folder without splits.
    """

    PATH_FIELDS: ClassVar[frozenset[str]] = FolderDataset.PATH_FIELDS | {"held_out"}

    name: Literal["image_folder"] = "image_folder"
    root: str
    """The folder that holds the split folders or the class folders."""
    held_out: bool = False
    """For finished models: the test split is what a finished model is scored on, see above, and nothing is drawn."""

    def load_from(self, root: Path) -> ImageData:
        """See `FolderDataset.load_from`."""
        return self._all_held_from(root) if self.held_out else super().load_from(root)

    def _look_at(self, root: Path) -> tuple[str, ...]:
        if not self.held_out:
            return super()._look_at(root)
        layout = read_split_layout(root)
        _held_split(root, layout)
        return tuple(map(composed, layout.class_names))

    def _all_held_from(self, root: Path) -> ImageData:
        """Returns the held-out images as the test split, and in place of any other split that has no folder."""
        layout = read_split_layout(root)
        held = _held_split(root, layout)
        sound = sound_files(root, [file for classes in layout.files.values() for file in _flat(classes)])
        found = self._as_split(root, layout, sound)
        logger.info("%s: judged on %s", root, held if layout.has_splits else "all images")
        skipped = {split: sum(kinds.values()) for split, kinds in layout.skipped.items()}
        splits = {name: found.get(name, found[held]) for name in SPLITS} | {"test": found[held]}
        return image_data(self.name, layout.class_names, splits, source=sound.source, skipped=skipped)

    def in_root(self, read: Callable[[Path], Found]) -> Found:
        """See `FolderDataset.in_root`."""
        with naming_root():
            return read(expand_path(self.root))
