"""Checks of a caller's images and labels; hash and scaling of an image in memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.datasets.arrays import array_hash
from harness.errors import DataError
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def as_pair(value: object, place: str) -> tuple[Tensor, Tensor]:
    """Returns a pair (images, labels) as tensors.

    Args:
        value: The result of a data set or a collate function, or a caller's argument.
        place: Begins the error messages.

    Raises:
        DataError: if it is not a pair, or its parts are not arrays.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        size = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
        raise DataError(f"{place}: expected a pair (images, labels), got {type(value).__name__}{size}")
    try:
        images, labels = (torch.as_tensor(part) for part in value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{place}: expected images and labels as tensors or arrays: {error}") from error
    return images.detach(), labels.detach()


def unit_range(image: Tensor) -> Tensor:
    """Returns an image, uint8 or floating point in [0,1], as float32 in [0,1]."""
    return image.float() if image.is_floating_point() else image.float().div(255)


def numbered(count: int) -> list[str]:
    """Returns "0000", "0001", ... as ids of examples without names."""
    return [f"{index:04d}" for index in range(count)]


def pixel_hash(image: Tensor) -> str:
    """Returns the sha256 of an image's type, shape and pixels."""
    image = image.detach().cpu().contiguous()
    pixels = (image.float() if image.dtype == torch.bfloat16 else image).numpy()  # NumPy has no bfloat16
    return array_hash(pixels)


def fingerprint(image: Tensor) -> int:
    """Returns the CRC-32 of an image's values, to compare it later; it takes a quarter of the time of a sha256."""
    return zlib.crc32(image.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def size_of(image: Tensor) -> str:
    """Returns an image's size in words: "3 x 224 x 224"."""
    return " x ".join(map(str, image.shape))


def check_images(images: Tensor) -> None:
    """Checks a batch of images.

    Args:
        images: Expected to be uint8, or floating point in [0,1], shape (N, C, H, W), N at least 1.

    Raises:
        DataError: if they are not as expected.
    """
    if images.ndim != 4 or len(images) == 0:
        raise DataError(f"images: expected the shape (N, C, H, W) with N >= 1, got {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise DataError(f"images: expected uint8, or floating point in [0,1], got {images.dtype}")
    low, high = (float(bound) for bound in images.aminmax())
    if not (low >= 0 and high <= 1):  # also where a pixel is NaN
        raise DataError(
            f"images: expected values in [0,1], got {low:.4g} to {high:.4g}; mean and std belong inside the model, "
            "and values up to 255 are divided by 255"
        )


def checked_labels(labels: ArrayLike | Tensor, *, count: int) -> NDArray[np.int64]:
    """Returns class indices as an array.

    Args:
        labels: Expected to be whole numbers >= 0, shape (N,).
        count: The number of images N.

    Raises:
        DataError: if they are not as expected.
    """
    is_array = isinstance(labels, np.ndarray)  # asked first, as to name tensors imports PyTorch
    array = labels.detach().cpu().numpy() if not is_array and isinstance(labels, torch.Tensor) else np.asarray(labels)
    if array.shape != (count,):
        raise DataError(f"labels: expected one class index for each of {count} images, got the shape {array.shape}")
    if not np.issubdtype(array.dtype, np.integer) or array.min() < 0:
        raise DataError(f"labels: expected whole numbers >= 0, got {array.dtype} from {array.min()}")
    return array.astype(np.int64)
