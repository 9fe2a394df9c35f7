"""From an image file to pixels: decoding through Pillow, and the one resize that every data set uses."""

import hashlib
import io
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from harness.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Endings (lower case) of the files that are taken for images."""

Resize = Literal["squash", "crop"]
"""How an image becomes square: the whole image is squashed, or its largest centred square is cut out."""


def read_image(path: Path) -> Tensor:
    """Decodes an image file.

    The EXIF orientation is applied, an alpha channel is dropped, the first frame of an animation is taken.

    Returns:
        uint8 RGB pixels (3, H, W).

    Raises:
        DataError: if the file cannot be read or decoded.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(_upright_rgb(image))
    except Exception as error:  # Pillow's readers raise many types on damaged files
        raise DataError(f"{path}: expected an image, got: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def check_encoded(data: bytes) -> str:
    """Decodes an encoded image to the last byte and returns its sha256.

    JPEGs are decoded at an eighth of their size, which reads the whole stream and costs less.

    Raises:
        Exception: of many types, if the image is damaged.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (1, 1))
        _upright_rgb(image)
    return hashlib.sha256(data).hexdigest()


def resized(pixels: Tensor, resolution: int, how: Resize = "squash") -> Tensor:
    """Returns a square float image, by antialiased bilinear resize in floating point.

    This is the resize of the exported deployment graph, so the deployed model sees what was measured.

    Args:
        pixels: uint8 (C, H, W), or float (C, H, W) in [0,1].
        resolution: Side length of the result.
        how: What becomes of an image that is not square.

    Returns:
        float32 (C, resolution, resolution) in [0,1].
    """
    if how == "crop":
        pixels = _centre_square(pixels)
    top = 1.0 if pixels.is_floating_point() else 255.0
    image = pixels.float()
    if image.shape[1:] != (resolution, resolution):
        image = interpolate(image[None], (resolution, resolution), mode="bilinear", antialias=True)[0]
    return image.div(top).clamp(0, 1).contiguous()  # the weights of a pixel add up to 1 only within rounding


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255
        values = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:  # without the detour Pillow warns
        image = image.convert("RGBA")
    return image.convert("RGB")


def _centre_square(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[:, top : top + side, left : left + side]
