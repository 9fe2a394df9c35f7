"""A network as torchattacks' CW needs it."""

from typing import cast

from torch import Tensor, nn


class NonNegative(nn.Module):
    """Shifts the logits of each image so that the smallest is 0: margins stay, signs no longer matter.

    The library's CW masks classes by multiplying logits with 0, which is right only where none is negative.
    """

    def __init__(self, model: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K) for images (N, C, H, W)."""
        logits = cast(Tensor, self.model(x))
        return logits - logits.detach().amin(dim=1, keepdim=True)
