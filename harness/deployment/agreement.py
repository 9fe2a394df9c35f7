"""Whether a runtime computes what PyTorch computed: the rule of agreement, as `harness_eval` has it in C++."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.metrics import share


@dataclass(frozen=True)
class Rule:
    """What breaks agreement: a flip that no near-tie excuses, logits too far apart, or logits that are not finite."""

    margin: float = 1e-3
    """A flip is excused where the reference preferred its own class by no more than this."""
    quantile_bound: float = 1e-3
    """Largest 99th percentile of the examples' largest absolute differences."""
    expects_reference: bool = True
    """Whether the reference's logits are expected; where they are not, the comparison is a measurement alone."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Logits of a runtime beside those of the reference; an example with a logit that is not finite has no prediction."""

    reference: NDArray[np.float32] | None
    """(N, K), finite; None where there is none: then nothing below that compares is defined."""
    found: NDArray[np.float32]
    """(N, K)."""

    @cached_property
    def finite(self) -> NDArray[np.bool_]:
        """(N,) whether all logits of the example are finite."""
        return np.asarray(np.isfinite(self.found).all(axis=1))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) the predicted class, -1 where there is none."""
        return np.where(self.finite, self.found.argmax(axis=1), -1)

    @property
    def agreement(self) -> float:
        """Share of the examples with the reference's class."""
        return float("nan") if self.reference is None else share(self.predicted == self.reference.argmax(axis=1))

    @cached_property
    def flip_margins(self) -> NDArray[np.float64]:
        """By how much the reference preferred its own class, for each example with another class here."""
        if self.reference is None:
            return np.empty(0)
        own = self.reference.argmax(axis=1)
        flipped = np.flatnonzero(self.finite & (self.predicted != own))
        rows = self.reference[flipped].astype(np.float64)
        at = np.arange(len(flipped))
        return rows[at, own[flipped]] - rows[at, self.predicted[flipped]]

    @cached_property
    def differences(self) -> NDArray[np.float64]:
        """The largest absolute difference of a logit, for each example with finite logits."""
        if self.reference is None:
            return np.empty(0)
        pairs = self.found[self.finite].astype(np.float64), self.reference[self.finite].astype(np.float64)
        return np.abs(pairs[0] - pairs[1]).max(axis=1)

    @property
    def max_difference(self) -> float:
        """The largest absolute difference of a logit."""
        return float(self.differences.max()) if self.differences.size else float("nan")

    @property
    def p99_difference(self) -> float:
        """The 99th percentile of the examples' largest differences."""
        return float(np.quantile(self.differences, 0.99)) if self.differences.size else float("nan")

    def flips_outside(self, margin: float) -> int:
        """Returns the number of flips that a margin does not excuse."""
        return int((self.flip_margins > margin).sum())

    def disagreements(self, rule: Rule) -> tuple[str, ...]:
        """Returns what breaks the rule; nothing where the runtimes agree."""
        reasons = []
        if unfinished := int((~self.finite).sum()):
            reasons.append(f"{_counted(unfinished, 'example')} with a logit that is not finite")
        if self.reference is None or not rule.expects_reference:
            return tuple(reasons)
        if flips := self.flips_outside(rule.margin):
            reasons.append(f"{_counted(flips, 'flip')} outside the margin of {rule.margin:.3g}")
        if self.p99_difference > rule.quantile_bound:
            bound = f"above {rule.quantile_bound:.3g}"
            reasons.append(f"99th percentile of the logit difference {self.p99_difference:.3g}, {bound}")
        return tuple(reasons)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
