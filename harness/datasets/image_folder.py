"""A folder of photographs, one folder a class: listed, checked and hashed on loading, decoded when asked for."""

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.base import DATASETS, expand_path, naming_root
from harness.datasets.build import image_data
from harness.datasets.checking import sound_hashes
from harness.datasets.decoding import Resize, read_image, resized
from harness.datasets.layout import read_classes, read_layout
from harness.datasets.shares import DrawsValidationAndTest, completed
from harness.images import ImageData, ImageSplit


class FileSplit:
    """Images that lie in files and are decoded each time they are asked for.

    Args:
        root: The folder that the ids are relative to.
        ids: Paths of the images, relative to `root`.
        labels: Class indices (N,).
        hashes: sha256 of each file.
        resolution: Side length of the images given out.
        resize: How an image becomes square.
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
    ) -> None:
        """See the class."""
        self.root = root
        self.ids: Sequence[str] = ids
        self.labels: NDArray[np.int64] = labels
        self.hashes: Sequence[str] = hashes
        self.resolution = resolution
        self.resize: Resize = resize

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = read_image(self.root / self.ids[index])
        return resized(pixels, self.resolution, self.resize), int(self.labels[index])

    def read_detailed(self, index: int, side: int) -> Tensor:
        """See `DetailedSplit`: the file's shorter side is the most that is given, or the resolution if that is larger."""
        pixels = read_image(self.root / self.ids[index])
        return resized(pixels, max(self.resolution, min(side, *pixels.shape[1:])), self.resize)


def read_class_folders(root: Path, class_names: Sequence[str], *, resolution: int, resize: Resize = "squash") -> FileSplit:
    """Reads and checks photographs of known classes, in `root/<Class>/`; some classes may have none.

    Args:
        root: The folder.
        class_names: The classes, in the order of their indices.
        resolution: Side length of the images given out.
        resize: How an image becomes square.

    Raises:
        DataError: if the folder is missing or empty, a folder in it is named as no class, or an image is broken.
    """
    files = read_classes(root, class_names)
    listed = [file for of_class in files for file in of_class]
    return FileSplit(
        root,
        ids=listed,
        labels=np.repeat(np.arange(len(files)), [len(of_class) for of_class in files]),
        hashes=sound_hashes(root, listed),
        resolution=resolution,
        resize=resize,
    )


class FolderDataset(DrawsValidationAndTest, ABC):
    """Base of the data sets that are folders of photographs."""

    PATH_FIELDS: ClassVar[frozenset[str]] = frozenset({"root"})

    resize: Resize = "squash"
    """How an image becomes square: "squash" the whole image, or "crop" its largest centred square."""

    def load_from(self, root: Path) -> ImageData:
        """Reads and checks the folder `root`.

        Raises:
            DataError: as `load`.
        """
        layout = read_layout(root)
        listed = {split: [file for files in classes for file in files] for split, classes in layout.files.items()}
        everything = [file for files in listed.values() for file in files]
        hash_of = dict(zip(everything, sound_hashes(root, everything), strict=True))
        splits: dict[str, ImageSplit] = {
            split: FileSplit(
                root,
                ids=listed[split],
                labels=np.repeat(np.arange(len(classes)), [len(files) for files in classes]),
                hashes=[hash_of[file] for file in listed[split]],
                resolution=self.resolution,
                resize=self.resize,
            )
            for split, classes in layout.files.items()
        }
        shares = [("validation", self.validation), ("test", self.test)]
        return image_data(self.name, layout.class_names, completed(splits, shares, self.seed))


@DATASETS.register
class ImageFolder(FolderDataset):
    """Photographs in `root/train|validation|test/<Class>/`, or in `root/<Class>/` and divided by seed.

    A validation or test folder that does not exist is drawn from the training images, stratified by class.
    """

    name: Literal["image_folder"] = "image_folder"
    root: str
    """The folder that holds the split folders or the class folders."""

    def load(self) -> ImageData:
        """Reads and checks the folder."""
        with naming_root():
            return self.load_from(expand_path(self.root))
