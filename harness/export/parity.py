"""Whether an exported file computes what the PyTorch network computes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from harness.errors import ModelError
from harness.spec import Spec

Samples = Mapping[str, Tensor]
"""Images for the comparison, by name: "clean", "pgd 8/255". All images of one tensor have one size."""


class Tolerance(Spec):
    """The rule of agreement: classes may differ only where the network's two largest outputs are nearly equal."""

    margin: float = Field(default=1e-3, ge=0)
    """A flip is allowed where the reference's two largest outputs differ by at most this."""
    quantile: float = Field(default=1e-3, ge=0)
    """Largest allowed 99th percentile of the absolute differences of outputs."""


@dataclass(frozen=True)
class Parity:
    """The differences between the outputs of two runtimes on the same images."""

    n: int
    """Number of images."""
    flips: int
    """Number of images with another predicted class."""
    flips_outside_margin: int
    """Number of flips that the margin does not allow."""
    max_difference: float
    """Largest absolute difference of an output."""
    p99_difference: float
    """99th percentile of the absolute differences."""


def measure(reference: NDArray[np.float32], found: NDArray[np.float32], tolerance: Tolerance) -> Parity:
    """Returns the differences between outputs (N, K), K >= 2, of a reference and another runtime; NaN counts as infinite."""
    difference = np.nan_to_num(np.abs(reference.astype(np.float64) - found), nan=np.inf, posinf=np.inf)
    second, first = np.sort(reference, axis=1)[:, -2:].T
    flipped = reference.argmax(axis=1) != found.argmax(axis=1)
    return Parity(
        n=len(reference),
        flips=int(flipped.sum()),
        flips_outside_margin=int((flipped & (first - second > tolerance.margin)).sum()),
        max_difference=float(difference.max(initial=0)),
        p99_difference=float(np.quantile(difference, 0.99, method="higher")) if difference.size else 0.0,
    )


def require(parity: Parity, tolerance: Tolerance, where: str) -> None:
    """Checks that a comparison fulfils the rule of agreement.

    Raises:
        ModelError: if it does not; the message begins with `where`.
    """
    if parity.flips_outside_margin or not parity.p99_difference <= tolerance.quantile:
        raise ModelError(
            f"{where}: expected the outputs of PyTorch (no flips beyond a margin of {tolerance.margin:g}, 99th percentile of the "
            f"differences <= {tolerance.quantile:g}), got {parity.flips_outside_margin} flips in {parity.n} images, "
            f"99th percentile {parity.p99_difference:.3g}, largest {parity.max_difference:.3g}"
        )
