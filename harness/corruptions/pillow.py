"""Conversion of images to Pillow's 8-bit images and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from harness.system.lazy import torch, transforms

if TYPE_CHECKING:
    from torch import Tensor


def to_pillow(x: Tensor) -> Image.Image:
    """Returns an image (3, H, W) in [0,1] as an 8-bit image; rounded, as truncation would darken it by half a level."""
    return transforms.functional.to_pil_image((x * 255).round().to(torch.uint8))


def from_pillow(image: Image.Image) -> Tensor:
    """Returns an 8-bit image as float32 (3, H, W) in [0,1]."""
    return transforms.functional.pil_to_tensor(image).float() / 255
