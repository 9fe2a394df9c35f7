"""Corruptions of storing an image: 8-bit rounding and JPEG; also used to test whether adversarials survive storage."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Literal, Self

from PIL import Image
from pydantic import model_validator

from harness.corruptions.base import Corruption
from harness.corruptions.pillow import from_pillow, to_pillow

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Rounding(Corruption):
    """Rounding to the nearest of 256 levels, as any 8-bit image file does."""

    GROUP = "encoding"
    LEVELS = 1

    name: Literal["rounding"] = "rounding"
    severities: tuple[int, ...] = (1,)
    """There is one severity."""

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        return from_pillow(to_pillow(x))


class Jpeg(Corruption):
    """JPEG at the qualities of cameras, phones and messengers."""

    GROUP = "encoding"

    name: Literal["jpeg"] = "jpeg"
    qualities: tuple[int, ...] = (95, 90, 80, 70, 50)
    """Pillow's quality at each severity, falling."""

    @model_validator(mode="after")
    def _one_quality_a_level(self) -> Self:
        if len(self.qualities) != self.LEVELS or not all(1 <= quality <= 100 for quality in self.qualities):
            raise ValueError(f"qualities: expected {self.LEVELS} numbers from 1 to 100, got {list(self.qualities)}")
        return self

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        return jpeg(x, self.qualities[severity - 1])


class JpegCompression(Corruption):
    """JPEG at the low qualities of ImageNet-C.

    Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261; the constants are those of its reference code.
    """

    GROUP = "digital"

    name: Literal["jpeg_compression"] = "jpeg_compression"

    def apply(self, x: Tensor, *, severity: int, generator: torch.Generator) -> Tensor:
        """See the base."""
        return jpeg(x, (25, 18, 15, 10, 7)[severity - 1])


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Returns an image (3, H, W) in [0,1] after encoding to JPEG and decoding, with Pillow's 4:2:0 chroma."""
    file = BytesIO()
    to_pillow(x).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return from_pillow(image)
