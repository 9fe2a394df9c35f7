"""The base of the data-set plug-ins."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from harness.datasets.splits import Drawn
from harness.errors import DataError, naming
from harness.images import ImageData, ImageSplit
from harness.registry import Plugin, Registry

FROM_TRAINING = "judged on images that are drawn from the training images: it may have learned from them"
"""Remark on the numbers of a finished model whose training may have used the images."""


class HeldOut(NamedTuple):
    """The held-out split on which a finished model is scored."""

    split: ImageSplit
    class_names: tuple[str, ...]
    remark: str = ""
    """A remark for every number on it; empty if the data set itself separates it from the training images."""


class Dataset(Plugin, ABC):
    """Base of the data-set plug-ins: a specification from which `load` makes `ImageData`.

    Images are RGB (grey ones are repeated over the channels) and square, of side length `resolution`.
    """

    resolution: int = Field(default=224, ge=8, le=1024)
    """Side length of the images in pixels; antialiased resize if the source differs."""

    @abstractmethod
    def load(self) -> ImageData:
        """Returns the data set, read and checked.

        Raises:
            DataError: if it is missing, incomplete or unreadable; the message says where.
        """

    def load_held(self) -> HeldOut:
        """Returns the split on which a finished model is scored, read and checked: the test split.

        Raises:
            DataError: see `load`.
        """
        data = self.load()
        test = data.splits["test"]
        return HeldOut(test, data.class_names, FROM_TRAINING if isinstance(test, Drawn) else "")

    def look(self) -> tuple[str, ...] | None:
        """Returns the class names, after all checks that need no decoding and no download; None if only `load` knows them.

        Raises:
            DataError: see `load`.
        """
        return self.load().class_names


DATASETS: Registry[Dataset] = Registry(
    "datasets",
    {
        "digits": "harness.datasets.digits:Digits",
        "image_folder": "harness.datasets.image_folder:ImageFolder",
        "vegetables": "harness.datasets.vegetables:Vegetables",
        "fashion_mnist": "harness.datasets.torchvision:FashionMNIST",
        "cifar10": "harness.datasets.torchvision:CIFAR10",
    },
)


def expand_path(text: str) -> Path:
    """Returns a path with a leading "~" expanded.

    Raises:
        DataError: if it begins with "~" and the name of no user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise DataError(f"{text}: expected a path, or one that begins with the home folder of a user, found {error}") from error


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns errors of the operating system inside the block into errors of the data set.

    Raises:
        DataError: if the folder, or something in it, cannot be read or has an invalid name.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or folder}: expected it to be readable, found {error.strerror or error}") from error


def naming_root() -> AbstractContextManager[None]:
    """Returns a context whose errors begin with the field that names a data set's folder."""
    return naming("dataset.root: ", DataError)
