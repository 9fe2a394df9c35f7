"""torchattacks' Square with the frame's notion of success."""

import torch
import torchattacks
from torch import Tensor

SMALLEST = torch.finfo(torch.float32).tiny
"""Margin of an example that is not adversarial, where its logits tie."""
LARGEST = torch.finfo(torch.float32).max
"""Bound of margins: the library multiplies them by 0, which makes NaN of infinity."""


class TieAwareSquare(torchattacks.Square):  # type: ignore[misc]  # the library has no types
    """torchattacks' Square that goes on with an example until its prediction is another one.

    The library takes a margin of 0 for success and leaves the example alone from then on. At an exact tie of logits the
    prediction is that of the lower index, which may be the true one: coarse logits (INT8, bfloat16) tie often.
    """

    def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns margin and loss (n,); the margin is positive exactly where the attack has not succeeded.

        See `torchattacks.Square.margin_and_loss`; here the network's output is not written to.

        Args:
            x: Images (n, C, H, W).
            y: Labels (n,), the wanted classes where the attack is targeted.
        """
        logits = self.get_logits(x)
        succeeded = (logits.argmax(dim=1) == y) == bool(self.targeted)
        logits = logits.float()
        own, others = logits.gather(1, y[:, None])[:, 0], logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
        margin = (others - own if self.targeted else own - others).nan_to_num(LARGEST, LARGEST, -LARGEST)
        judged = torch.where(succeeded, margin.clamp(max=0), margin.clamp(min=SMALLEST))
        if self.loss == "margin":
            return judged, margin
        entropy = torch.nn.functional.cross_entropy(logits, y, reduction="none")
        return judged, entropy if self.targeted else -entropy
