"""How many passes of the network an attack makes at most, and who is told of each one: what progress and its ETA rest on."""

from typing import NamedTuple, Protocol

BACKWARD = 2
"""What a backward pass costs, in forward passes: the gradients of inputs and of activations, each a product as large.

Source: Kaplan et al. 2020, https://arxiv.org/abs/2001.08361, section 2.1.
"""


class Passes(NamedTuple):
    """Numbers of passes of one example."""

    forwards: int
    differentiated: int = 0
    """How many of the forward passes a backward pass follows."""

    @property
    def cost(self) -> int:
        """What they cost, in forward passes."""
        return self.forwards + BACKWARD * self.differentiated

    def times(self, count: int) -> "Passes":
        """Returns the passes of `count` such runs."""
        return Passes(self.forwards * count, self.differentiated * count)

    def and_also(self, others: "Passes") -> "Passes":
        """Returns the passes of both."""
        return Passes(self.forwards + others.forwards, self.differentiated + others.differentiated)


class Listener(Protocol):
    """Something that is told of each forward pass of an attack."""

    def passed(self, asked: int, active: int, *, differentiated: bool) -> None:
        """Takes note of a pass.

        Args:
            asked: Number of images that the attack asked for.
            active: Number of its examples that have no adversarial yet; all of them where that is not known.
            differentiated: Whether a backward pass may follow.
        """
        ...
