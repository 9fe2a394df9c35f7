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
"""Remark on a finished model's number where nothing is known to be kept from its training."""


class Held(NamedTuple):
    """What a finished model is judged on."""

    split: ImageSplit
    class_names: tuple[str, ...]
    remark: str = ""
    """What every number on it must be read with; nothing where it was kept apart from training by the data set itself."""


class Dataset(Plugin, ABC):
    """Base of the data-set plug-ins: a specification that loads to `ImageData`.

    Images are always RGB (grey ones are repeated over the channels) and square, at `resolution`.
    """

    resolution: int = Field(default=224, ge=8, le=1024)
    """Side length of the images in pixels; antialiased resize where the source differs."""

    @abstractmethod
    def load(self) -> ImageData:
        """Reads and checks the data set.

        Raises:
            DataError: if it is missing, incomplete or unreadable; the message names the place.
        """

    def load_held(self) -> Held:
        """Reads and checks what a finished model is judged on: the test split.

        Raises:
            DataError: see `load`.
        """
        data = self.load()
        test = data.splits["test"]
        return Held(test, data.class_names, FROM_TRAINING if isinstance(test, Drawn) else "")

    def look(self) -> tuple[str, ...] | None:
        """Checks what can be checked without decoding images or downloading.

        Returns:
            The names of the classes; None where only loading tells them.

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
        DataError: if it begins with "~" and a name that nobody has.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise DataError(f"{text}: expected a path, or one that begins with the home folder of a user, found {error}") from error


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns errors of the operating system into those of a data set.

    Raises:
        DataError: if the folder, or something in it, may not be read, or has an impossible name.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or folder}: expected it to be readable, found {error.strerror or error}") from error


def naming_root() -> AbstractContextManager[None]:
    """Puts the field that names a data set's folder before the errors about what lies there."""
    return naming("dataset.root: ", DataError)
