"""Conversion of images to Pillow's 8-bit images and back."""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image


def to_pillow(x: Tensor) -> Image.Image:
    """Returns an image (3, H, W) in [0,1] as an 8-bit image; rounded, as truncation would darken it by half a level."""
    return to_pil_image((x * 255).round().to(torch.uint8))


def from_pillow(image: Image.Image) -> Tensor:
    """Returns an 8-bit image as float32 (3, H, W) in [0,1]."""
    return pil_to_tensor(image).float() / 255
