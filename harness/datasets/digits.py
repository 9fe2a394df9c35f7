"""Handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, without a download."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.datasets.arrays import ArraySplit
from harness.datasets.base import DATASETS
from harness.datasets.build import image_data
from harness.datasets.shares import DrawsValidationAndTest, completed
from harness.images import ImageData

WHITE = 16
"""The largest pixel value of the source."""
SIDE = 8
"""Side length of the source's images in pixels."""
FILE = "datasets/data/digits.csv.gz"
"""Where scikit-learn keeps them in its package: a row an image, its pixels and its label."""


@DATASETS.register
class Digits(DrawsValidationAndTest):
    """scikit-learn's handwritten digits, divided by seed, stratified by class.

    Source: E. Alpaydin and C. Kaynak 1998, "Optical recognition of handwritten digits", UCI repository, test part.
    """

    name: Literal["digits"] = "digits"
    resolution: int = Field(default=32, ge=8, le=1024)
    """Side length of the images in pixels; upsampled from 8."""

    def look(self) -> tuple[str, ...]:
        """See `Dataset.look`."""
        return tuple(map(str, range(10)))

    def load(self) -> ImageData:
        """See `Dataset.load`."""
        grey, labels = read_digits()
        pool = ArraySplit(
            np.repeat(grey[:, None], 3, axis=1),
            labels,
            ids=[f"digits/{index:04d}" for index in range(len(grey))],
            resolution=self.resolution,
        )
        shares = [("validation", self.validation), ("test", self.test)]
        return image_data(self.name, self.look(), completed({"train": pool}, shares, self.seed))


def read_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns the images (N, 8, 8) in [0,1] and their labels (N,), from the file in scikit-learn; its import takes a second."""
    package = find_spec("sklearn")
    folders = [] if package is None else package.submodule_search_locations or ()
    files = (Path(folder) / FILE for folder in folders)
    if (file := next((file for file in files if file.is_file()), None)) is not None:
        rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
    else:  # another version may keep it elsewhere
        from sklearn.datasets import load_digits

        source = load_digits()
        rows = np.column_stack([source.data, source.target]).astype(np.float32)
    return rows[:, :-1].reshape(-1, SIDE, SIDE) / np.float32(WHITE), rows[:, -1].astype(np.int64)
