"""What training and attacks call: a module, its compiled form, or a function around either."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Network = Callable[["Tensor"], "Tensor"]
"""Images (N, 3, H, W) in [0,1] to float32 logits (N, K), in whatever precision it computes."""
