"""When an iterate is adversarial, and which logits an attack gets where the inference form disagrees with the reference model."""

from typing import NamedTuple

import torch
from torch import Tensor


class Criterion:
    """When an iterate is adversarial, for each example of a batch.

    Args:
        y: Classes (N,): the true ones, which must be left, or the wanted ones where `targeted`.
        targeted: Whether `y` are the wanted classes.
    """

    def __init__(self, y: Tensor, *, targeted: bool) -> None:
        """See the class."""
        self.y, self.targeted = y, targeted

    def is_adversarial(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Returns (n,) whether the predictions make the examples `rows` (n,) adversarial."""
        hit = logits.argmax(dim=1) == self.y[rows]
        return hit if self.targeted else ~hit

    def margin(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Returns (n,) by how much the examples `rows` (n,) miss the criterion: the lower, the closer to success."""
        y = self.y[rows, None]
        own, others = logits.gather(1, y)[:, 0], logits.scatter(1, y, -torch.inf).amax(dim=1)
        return others - own if self.targeted else own - others


class Correction(NamedTuple):
    """Logits that the attack must not see as they are: the inference form calls adversarial what the reference model does not."""

    positions: Tensor
    """(m,) in the batch."""
    logits: Tensor
    """(m, K), those of the reference model."""

    def of(self, logits: Tensor) -> Tensor:
        """Returns the logits (n, K) with these in their place; the gradients stay those of the form."""
        slope = logits[self.positions]
        slope = (slope - slope.detach()).nan_to_num()
        return logits.index_copy(0, self.positions, self.logits.to(logits.dtype) + slope)
