"""The differences between the outputs of two runtimes; `harness_eval` has the same definition in C++ (agreement.hpp).

An example's *scale* is the reference's largest finite absolute output of the example, or the median of these over all
examples if that is larger, and at least 1. Rounding errors grow with the numbers in a sum, so a bound on a difference or on a
margin is multiplied by the scale. The bound is unchanged for networks with outputs up to 1, and an example with huge outputs
does not change the bound of others.

Equal infinities have the difference 0, as both runtimes then exclude the same class by -inf. An infinity and any other value
have an infinite difference. NaN is counted; its example has neither a difference nor a prediction.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LEAST_SCALE = 1.0
"""Outputs below this, such as probabilities, are compared by their absolute difference."""
NO_CLASS = -1
"""The prediction of an example without one."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Differences:
    """The outputs of a runtime and those of the reference."""

    reference: NDArray[np.float32] | None
    """(N, K); None without a reference: then the comparisons are empty or NaN."""
    found: NDArray[np.float32]
    """(N, K)."""

    @cached_property
    def nan(self) -> Flags:
        """(N,) whether an output of the example is NaN in one of the two."""
        pair = [self.found] if self.reference is None else [self.found, self.reference]
        return np.asarray(np.isnan(np.concatenate(pair, axis=1)).any(axis=1))

    @cached_property
    def unbounded(self) -> Flags:
        """(N,) whether the largest output of the example is infinite: +inf, or all of them -inf."""
        return np.asarray(~self.nan & np.isinf(self.found.max(axis=1)))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) the predicted class; `NO_CLASS` where an output is NaN or the largest one infinite."""
        return _predicted(self.found)

    @cached_property
    def expected(self) -> NDArray[np.int64]:
        """(N,) the class that the reference predicts; empty without a reference."""
        return np.empty(0, np.int64) if self.reference is None else _predicted(self.reference)

    @cached_property
    def scales(self) -> NDArray[np.float64]:
        """(N,) the scale of each example; empty without a reference."""
        if self.reference is None:
            return np.empty(0)
        largest = np.where(np.isfinite(self.reference), np.abs(self.reference), 0).max(axis=1).astype(np.float64)
        return np.maximum(largest, max(LEAST_SCALE, float(np.median(largest)))) if largest.size else largest

    @cached_property
    def differences(self) -> NDArray[np.float64]:
        """The largest absolute difference of an output, for each example without NaN."""
        if self.reference is None:
            return np.empty(0)
        pair = self.reference[~self.nan].astype(np.float64), self.found[~self.nan].astype(np.float64)
        same = pair[0] == pair[1]
        return np.abs(np.subtract(*pair, out=np.zeros(same.shape), where=~same)).max(axis=1)

    @property
    def max_difference(self) -> float:
        """The largest absolute difference of an output."""
        return float(self.differences.max()) if self.differences.size else float("nan")

    @property
    def p99_difference(self) -> float:
        """The 99th percentile of the examples' largest differences."""
        return _p99(self.differences)

    @property
    def p99_relative(self) -> float:
        """The 99th percentile of the examples' largest differences, each divided by its scale; the rule applies to it."""
        return _p99(self.differences / self.scales[~self.nan]) if self.differences.size else float("nan")

    @property
    def infinite(self) -> int:
        """Number of examples with an output that is infinite in one runtime and something else in the other."""
        return int(np.isinf(self.differences).sum())

    @cached_property
    def flips(self) -> NDArray[np.intp]:
        """The examples that have a prediction in both, and different ones."""
        if self.reference is None:
            return np.empty(0, np.intp)
        decided = (self.predicted != NO_CLASS) & (self.expected != NO_CLASS)
        return np.flatnonzero(decided & (self.predicted != self.expected))

    @cached_property
    def flip_margins(self) -> NDArray[np.float64]:
        """For each flip, the reference's output for its own class minus that for the class predicted here."""
        if self.reference is None:
            return np.empty(0)
        rows, at = self.reference[self.flips].astype(np.float64), np.arange(len(self.flips))
        return rows[at, self.expected[self.flips]] - rows[at, self.predicted[self.flips]]

    def flips_outside(self, margin: float) -> int:
        """Returns the number of flips whose margin is above `margin` times the scale."""
        return int((self.flip_margins > margin * self.scales[self.flips]).sum()) if len(self.flips) else 0


def _predicted(outputs: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.where(np.isfinite(outputs.max(axis=1)), outputs.argmax(axis=1), NO_CLASS)


def _p99(values: NDArray[np.float64]) -> float:
    """Returns the 99th percentile as numpy does, but infinity where numpy would subtract infinity from infinity."""
    if not values.size:
        return float("nan")
    upper = float(np.quantile(values, 0.99, method="higher"))
    return upper if np.isinf(upper) else float(np.quantile(values, 0.99))
