"""Whether an exported file computes what the PyTorch network computes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from harness.errors import ModelError
from harness.export.differences import Differences
from harness.spec import Spec

Samples = Mapping[str, Tensor]
"""Images for the comparison, by name: "clean", "pgd 8/255". All images of one tensor have one size."""


class Tolerance(Spec):
    """The rule of agreement: classes may differ only where the network's outputs for them are nearly equal.

    Both bounds are multiplied by the scale of an example, which is at least 1 (`harness.export.differences`).
    """

    margin: float = Field(default=1e-3, ge=0)
    """A flip is allowed where the reference's outputs for the two classes differ by at most this."""
    quantile: float = Field(default=1e-3, ge=0)
    """Largest allowed 99th percentile of the examples' largest absolute differences."""


@dataclass(frozen=True)
class Parity:
    """The differences between the outputs of two runtimes on the same images."""

    n: int
    """Number of images."""
    nan_count: int
    """Images with an output that is NaN, in either runtime."""
    flips: int
    """Number of images with another predicted class."""
    flips_outside_margin: int
    """Number of flips that the margin does not allow."""
    infinite: int
    """Images with an output that is infinite in one runtime and something else in the other."""
    max_difference: float
    """Largest absolute difference of an output."""
    p99_difference: float
    """99th percentile of the images' largest absolute differences."""
    p99_relative: float
    """The same, each divided by its image's scale; the rule applies to this."""


def measure(reference: NDArray[np.float32], found: NDArray[np.float32], tolerance: Tolerance) -> Parity:
    """Returns the differences between outputs (N, K), K >= 2, of a reference and another runtime."""
    compared = Differences(reference, found)
    return Parity(
        n=len(reference),
        nan_count=int(compared.nan.sum()),
        flips=len(compared.flips),
        flips_outside_margin=compared.flips_outside(tolerance.margin),
        infinite=compared.infinite,
        max_difference=compared.max_difference,
        p99_difference=compared.p99_difference,
        p99_relative=compared.p99_relative,
    )


def require(parity: Parity, tolerance: Tolerance, where: str) -> None:
    """Checks that a comparison fulfils the rule of agreement.

    Raises:
        ModelError: if it does not; the message begins with `where`.
    """
    broken = parity.nan_count or parity.infinite or parity.flips_outside_margin
    if broken or not parity.p99_relative <= tolerance.quantile:
        raise ModelError(
            f"{where}: expected the outputs of PyTorch (no flips beyond a margin of {tolerance.margin:g}, 99th percentile of the "
            f"differences <= {tolerance.quantile:g}, both times the largest output where that is above 1), got "
            f"{parity.flips_outside_margin} flips in {parity.n} images, 99th percentile {parity.p99_relative:.3g}, "
            f"largest difference {parity.max_difference:.3g}{_not_finite(parity)}"
        )


def _not_finite(parity: Parity) -> str:
    found = {"NaN": parity.nan_count, "an infinity of its own": parity.infinite}
    return "".join(f", {what} in {count} of {parity.n} images" for what, count in found.items() if count)
