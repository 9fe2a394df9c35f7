"""Handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, without a download."""

from typing import Literal

import torch
from pydantic import Field
from sklearn.datasets import load_digits

from harness.datasets.base import DATASETS
from harness.datasets.build import image_data
from harness.datasets.shares import DrawsValidationAndTest, completed
from harness.datasets.tensors import TensorSplit
from harness.images import ImageData

WHITE = 16
"""The largest pixel value of the source."""


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
        source = load_digits()
        grey = torch.from_numpy(source.images).float().div(WHITE)
        pool = TensorSplit(
            grey[:, None].expand(-1, 3, -1, -1),
            source.target,
            ids=[f"digits/{index:04d}" for index in range(len(grey))],
            resolution=self.resolution,
        )
        shares = [("validation", self.validation), ("test", self.test)]
        return image_data(self.name, [str(digit) for digit in source.target_names], completed({"train": pool}, shares, self.seed))
