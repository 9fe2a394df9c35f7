"""Whether a network of PyTorch computes what an ONNX file computes, so that its gradient may stand for the file's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.onnxfile.content import Precision
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

LARGEST: Mapping[Precision, float] = {"float32": 0.01, "float16": 0.03, "int8": 0.3}
"""Largest difference of logits, as a share of their own size, up to which the networks are the same one. Whole numbers of 8 bits
move logits by 2 % in a small network and by more in a deep one; small networks that were trained alike from other weights differ
by 35 % and more."""
LEAST_SIZE = 1e-6
"""Smallest divisor."""


def difference(network: nn.Module, reference: nn.Module, x: Tensor) -> float:
    """Returns the difference of the logits of two networks on images, as a share of the reference model's; NaN counts as 1.

    Of each image's logits the mean is taken off first, on which no probability depends. The first image is passed alone, the
    others in one batch: a graph may hold on to the size of its batch.

    Args:
        network: Images (N, 3, H, W) in [0,1] to logits (N, K).
        reference: The same.
        x: The images.
    """
    with torch.no_grad():
        parts = [part for part in (x[:1], x[1:]) if len(part)]
        found, wanted = (torch.cat([model(part) for part in parts]) for model in (network, reference))
        return _share(found, wanted)


def _share(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return 1.0
    found, wanted = (logits.double() - logits.double().mean(dim=1, keepdim=True) for logits in (found, wanted))
    share = float((found - wanted).norm() / wanted.norm().clamp(min=LEAST_SIZE))
    return share if share == share else 1.0  # noqa: PLR0124 - NaN
