"""The memory layout of images in which a device computes fastest."""

from typing import Literal

import torch

NumberFormat = Literal["float32", "bfloat16"]


def quick_layout(device: torch.device, precision: NumberFormat) -> torch.memory_format:
    """Returns the layout for the images and weights of a network: channels last on CPUs, and on GPUs in bfloat16.

    cuDNN chooses the kernels of a convolution again for each batch size, which takes seconds for depthwise convolutions with
    channels last. In float32 on an H200 that costs more than the layout gains: EfficientNet-B0 at 224x224 with its batch norms
    folded, forward and backward, takes 3.6 to 5.8 s at each new size and then computes 3,890 images/s; contiguous it takes
    0.1 s and computes 3,740. In bfloat16 the layout gains more, 7,860 against 5,330 images/s.

    Args:
        device: Where the network computes.
        precision: The number format of its products and convolutions.
    """
    is_faster = device.type != "cuda" or precision == "bfloat16"
    return torch.channels_last if is_faster else torch.contiguous_format
