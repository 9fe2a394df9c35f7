"""Image files to pixels: decoding through Pillow, and the resize of all data sets."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from harness.errors import DataError
from harness.images import MAX_PIXELS, open_regular
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


NOT_DECODED = frozenset({"EPS", "MPEG"})
"""Formats that Pillow opens and the harness refuses: EPS is a program that an interpreter runs; of MPEG Pillow reads only the
size."""
BY_JPEG = frozenset({"MPO"})
"""Formats that Pillow's JPEG reader opens, although it is not registered for them."""
MAX_BYTES = 1 << 30
"""Largest file size; no image of `MAX_PIXELS` pixels of 8 bytes has a larger file."""
SHORT = 1 << 24
"""Bytes up to which a file is read without checking its header first."""
WHITE_16 = 65535
"""The largest value of 16 bits."""

Resize = Literal["squash", "crop"]
"""How an image becomes square: the whole image is scaled to a square, or its largest centred square is cut out."""


def image_suffixes() -> frozenset[str]:
    """Returns the endings (lower case) of the files that count as images: those of all formats that Pillow can decode here.

    They include the formats of Pillow's plug-ins, such as that for HEIC, that are registered by now.
    """
    Image.init()
    formats = {*_formats(tuple(Image.ID)), *BY_JPEG}
    return frozenset(suffix for suffix, image_format in Image.registered_extensions().items() if image_format in formats)


def read_image(path: Path) -> Tensor:
    """Returns the pixels of an image file: uint8 RGB (3, H, W).

    The EXIF orientation is applied, an alpha channel is dropped, of an animation the first frame is read. Grey of 16 bits
    and of floating point in [0,1] is scaled.

    Raises:
        DataError: if it is not a regular file, cannot be read or decoded, has more than `MAX_PIXELS` pixels, or values of
            unknown range.
    """
    try:
        with open_regular(path) as file, _opened(file) as image:
            pixels = np.array(_upright_rgb(image))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # Pillow's readers raise many types on damaged files
        raise DataError(f"{path}: expected an image, got: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_encoded(path: Path) -> bytes:
    """Returns the content of an image file; of a large file that is not an image, or too large, only the header is read.

    Raises:
        Exception: of many types, if it is not an image.
    """
    with open_regular(path) as file:
        size = file.seek(0, io.SEEK_END)
        if size > SHORT:
            with _opened(file):
                pass
        if size > MAX_BYTES:
            raise DataError(f"expected a file of at most {MAX_BYTES} bytes, got one of {size}")
        file.seek(0)
        return file.read()


def check_encoded(data: bytes) -> str:
    """Returns the sha256 of an encoded image after decoding all of it.

    JPEGs are decoded at an eighth of their size, which reads the whole stream in less time.

    Raises:
        Exception: of many types, if the image is damaged.
    """
    with _opened(io.BytesIO(data)) as image:
        image.draft("RGB", (1, 1))
        _upright_rgb(image)
    return hashlib.sha256(data).hexdigest()


def resized(pixels: Tensor, resolution: int, how: Resize = "squash") -> Tensor:
    """Returns a square float image, by antialiased bilinear resize in floating point.

    The exported deployment graph resizes in the same way, so that the deployed model gets the pixels that were measured.

    Args:
        pixels: uint8 (C, H, W), or float (C, H, W) in [0,1].
        resolution: Side length of the result.
        how: How an image that is not square becomes square.

    Returns:
        float32 (C, resolution, resolution) in [0,1].
    """
    if how == "crop":
        pixels = _centre_square(pixels)
    top = 1.0 if pixels.is_floating_point() else 255.0
    image = pixels.float()
    if image.shape[1:] != (resolution, resolution):
        image = torch.nn.functional.interpolate(image[None], (resolution, resolution), mode="bilinear", antialias=True)[0]
    return image.div(top).clamp(0, 1).contiguous()  # the weights of a pixel add up to 1 only up to rounding


@lru_cache(maxsize=4)
def _formats(known: tuple[str, ...]) -> list[str]:
    """Returns the formats that Pillow decodes without another program, in their order."""
    return [name for name in known if name not in NOT_DECODED and not _is_stub(Image.OPEN[name][0])]


def _is_stub(reader: object) -> bool:
    """Returns whether a reader only recognises a format and needs another program to decode it."""
    return isinstance(reader, type) and issubclass(reader, ImageFile.StubImageFile)


def _opened(file: IO[bytes]) -> Image.Image:
    """Returns an opened image; only its header is read.

    Raises:
        DataError: if it has too many pixels.
        Exception: of many types, if it is not an image.
    """
    Image.init()
    try:
        image = Image.open(file, formats=_formats(tuple(Image.ID)))
    except UnidentifiedImageError as error:  # Pillow's own message names the Python object that reads the file
        raise UnidentifiedImageError("cannot identify the format of the file") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"expected at most {MAX_PIXELS} pixels, got more than twice as many") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise DataError(f"expected at most {MAX_PIXELS} pixels, got {width} x {height}")
    return image


def _upright_rgb(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion clips at 255
        return Image.fromarray(_grey(np.asarray(image), image)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:  # Pillow warns of a direct conversion
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(values: NDArray[np.generic], image: Image.Image) -> NDArray[np.uint8]:
    """Returns grey of more than 8 bits (H, W) as 8 bits.

    White is 1 in floating point, and 65535 in whole numbers. A 32-bit file does not name its range: an image without a value
    above 255 may have 8 bits.

    Raises:
        DataError: if values are outside of the range, or the range is not known.
    """
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # also where a value is NaN
            raise DataError(f"expected floating-point values in [0,1], got {low:.4g} to {high:.4g}; scale them")
        return np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    unknown = image.mode == "I" and image.format not in ("PNG", "PPM")  # these two formats give 16-bit values in the 32-bit mode
    if unknown and (low < 0 or high > WHITE_16 or 0 < high <= 255):
        expected = f"expected 32-bit values from 0 to {WHITE_16}, some above 255"
        raise DataError(f"{expected}, got {low:.0f} to {high:.0f}; save them with 8 or 16 bits")
    return np.rint(values.astype(np.float64) / 257).clip(0, 255).astype(np.uint8)


def _centre_square(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[:, top : top + side, left : left + side]
