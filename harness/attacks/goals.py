"""When an iterate counts as a success, and what an attack is told where a faster form of the network disagrees."""

from typing import NamedTuple

import torch
from torch import Tensor


class Goal:
    """What the attack is after, for each example of a batch.

    Args:
        y: Classes (N,): the true ones, which must be left, or the wanted ones where `targeted`.
        targeted: Whether `y` are the wanted classes.
    """

    def __init__(self, y: Tensor, *, targeted: bool) -> None:
        """See the class."""
        self.y, self.targeted = y, targeted

    def reached(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Returns (n,) whether the predictions meet the goal of the examples `rows` (n,)."""
        hit = logits.argmax(dim=1) == self.y[rows]
        return hit if self.targeted else ~hit

    def margin(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Returns (n,) by how much the logits miss the goal of the examples `rows` (n,): the lower, the closer to success."""
        y = self.y[rows, None]
        own, others = logits.gather(1, y)[:, 0], logits.scatter(1, y, -torch.inf).amax(dim=1)
        return others - own if self.targeted else own - others


class Correction(NamedTuple):
    """Logits that the attack must not see as they are: a faster form calls adversarial what the real network does not."""

    positions: Tensor
    """(m,) in the batch."""
    logits: Tensor
    """(m, K), those of the real network."""

    def of(self, logits: Tensor) -> Tensor:
        """Returns the logits (n, K) with these in their place; the gradients stay those of the form."""
        slope = logits[self.positions]
        slope = (slope - slope.detach()).nan_to_num()
        return logits.index_copy(0, self.positions, self.logits.to(logits.dtype) + slope)
