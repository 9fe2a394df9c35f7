"""Kaggle's Vegetable Image Dataset: 15 classes, 21,000 photographs of 224 x 224 pixels."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from harness.datasets.base import DATASETS, expand_path, naming_root, readable
from harness.datasets.image_folder import FolderDataset, Found
from harness.errors import DataError

KAGGLE_NAME = "misrakahmed/vegetable-image-dataset"
"""The data set's name on Kaggle."""
INNER_FOLDER = "Vegetable Images"
"""The folder inside the archive that holds train, validation and test."""
DEEPEST = 3
"""How many levels below the given folder the inner folder may be."""


@DATASETS.register
class Vegetables(FolderDataset):
    """The vegetable photographs in `root`, or downloaded from Kaggle through kagglehub."""

    name: Literal["vegetables"] = "vegetables"
    root: str | None = None
    """The unpacked data set, or any folder with the same layout; by default it is downloaded from Kaggle."""

    def in_root(self, read: Callable[[Path], Found]) -> Found:
        """See `FolderDataset.in_root`; downloads if no folder is named."""
        given = str(download()) if self.root is None else self.root
        with naming_root():
            return read(inner_folder(expand_path(given)))

    def look(self) -> tuple[str, ...] | None:
        """See `Dataset.look`; nothing is downloaded."""
        if self.root is None:
            expect_kagglehub()
            return None
        return super().look()


def inner_folder(root: Path) -> Path:
    """Returns the nearest folder named "Vegetable Images" below `root`, or `root` itself if there is none.

    Raises:
        DataError: if `root` cannot be read.
    """
    levels = ("/".join(["*"] * depth + [INNER_FOLDER]) for depth in range(DEEPEST + 1))
    with readable(root):
        return next((found for level in levels for found in sorted(root.glob(level)) if found.is_dir()), root)


def expect_kagglehub() -> None:
    """Checks that kagglehub is installed.

    Raises:
        DataError: if it is not; the message says what to download and which field names the folder.
    """
    if find_spec("kagglehub") is None:
        raise DataError(_instructions("kagglehub is not installed"))


def download() -> Path:
    """Returns the folder to which kagglehub has downloaded the data set, in its own cache.

    Raises:
        DataError: if kagglehub is not installed or fails; the message says what to download and which field names the folder.
    """
    expect_kagglehub()
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(KAGGLE_NAME))
    except Exception as error:  # kagglehub passes on errors of its HTTP client, its archive reader and the disk
        raise DataError(_instructions(f"kagglehub failed: {' '.join(str(error).split()):.200}")) from error


def _instructions(reason: str) -> str:
    return (
        f"dataset.root: expected the folder of the vegetable photographs, got none, and {reason}. Download the data set "
        f"{KAGGLE_NAME} from Kaggle, unpack it anywhere and name its folder: --set dataset.root='/path/to/{INNER_FOLDER}'"
    )
