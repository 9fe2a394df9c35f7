"""What makes a network faster for attacks: memory layout of images, number format, and which of them a suite asks for."""

from __future__ import annotations

from typing import Any, Literal

from harness.spec import Spec
from harness.system.lazy import torch

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


class Inference(Spec):
    """How a network is made faster for attacks; the reference model, the network as given in float32, decides what succeeds."""

    channels_last: bool = True
    """Store images with their channels last, where `quick_layout` chooses that."""
    fold_batchnorm: bool = True
    """Fold BatchNorm into the convolution before it, where that keeps the logits."""
    compile: bool = False
    """Compile with torch.compile; batches are padded to at most three sizes, and the first batch of a size compiles it."""
    precision: NumberFormat = "float32"
    """Number format of the products and convolutions in an attack's passes: bfloat16 by autocast."""

    def settings(self) -> dict[str, Any]:
        """Returns the fields that differ from the default, in plain JSON values; digests cover these alone."""
        return self.model_dump(mode="json", exclude_defaults=True)


AS_GIVEN = Inference(channels_last=False, fold_batchnorm=False)
"""Attack the network exactly as it is given."""
