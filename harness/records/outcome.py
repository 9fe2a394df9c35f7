"""What one step found of a model, example by example."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from harness.records.evidence import Evidence


@dataclass(frozen=True)
class ConditionResult:
    """The results of a model on one condition's images, example by example, in the order of the evaluated split.

    For an attack under the protocols nested and bisect an example's image is its adversarial image of the smallest budget that
    has one, else the last one tried; where bisect tried none, it is that of the next larger budget that was tried, projected. An
    initially wrong example keeps its clean image.
    """

    eps: Fraction | None
    """The budget, or None where the condition has none."""
    logits: NDArray[np.float32]
    """Logits (N, K) on this condition's images."""
    is_adversarial: NDArray[np.bool_]
    """(N,) correct when clean, and with an adversarial within the budget, of the wanted class where the attack has one;
    all False where there is no attack."""
    distance: NDArray[np.float32]
    """(N,) size of the perturbation in the norm of the threat model; 0 where the image is the clean one."""
    max_violation: float = 0.0
    """Largest distance outside the ball or [0,1], after the frame has projected."""
    forwards: int = 0
    """Forward passes x examples; an attack's do not count the one clean pass in which its sweep finds what to attack."""
    backwards: int = 0
    """Backward passes x examples."""
    seconds: float = 0.0
    """Wall time."""
    peak_memory_mb: float = 0.0
    """Largest memory of the process (CPU) or of the device (GPU) since it started, in MiB: never less than in an earlier row."""
    evidence: Evidence = Evidence()  # noqa: RUF009 - frozen
    """What the run showed, for the sanity checks."""


@dataclass(frozen=True)
class Outcome:
    """The conditions of one step (a sweep of budgets, or one clean pass) on one model."""

    labels: NDArray[np.int64]
    """True class indices (N,)."""
    clean_logits: NDArray[np.float32]
    """Logits (N, K) on the unperturbed images."""
    conditions: tuple[ConditionResult, ...]
    """One result a condition, budgets rising."""
    smallest_eps: NDArray[np.float32]
    """(N,) the smallest budget with an adversarial image, or the distance of a minimum-norm attack; inf where there is none."""
