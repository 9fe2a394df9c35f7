"""The base of the data-set plug-ins."""

from abc import ABC, abstractmethod
from pathlib import Path

from pydantic import Field

from harness.images import ImageData
from harness.registry import Plugin, Registry


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
    """Returns a path with a leading "~" expanded."""
    return Path(text).expanduser()
