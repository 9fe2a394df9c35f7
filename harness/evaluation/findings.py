"""Names and meaning of what is measured for the sanity checks while an attack runs; kept in every condition's result."""

from enum import StrEnum

from harness.attacks.evidence import Evidence

FARTHEST = 1e9
"""Written instead of infinity, which JSON has not: the violation of a non-finite image."""


class Finding(StrEnum):
    """A measured value of a condition."""

    ATTACKED = "attacked"
    """Examples that were attacked at this budget, once a restart."""
    ZERO_GRADIENT = "zero_gradient_share"
    """Share of the attacked examples all of whose gradients were zero."""
    NONFINITE_GRADIENT = "nonfinite_gradient_share"
    """Share of the attacked examples with a NaN or infinite gradient."""
    SILENT_SUCCESS = "silent_success_share"
    """Share of the attacked examples with an adversarial iterate whose returned image is none."""
    RAW_VIOLATION = "raw_violation"
    """Largest distance outside ball or bounds of what the attack returned, before the frame projected it."""


def findings_of(evidence: Evidence) -> dict[str, float]:
    """Returns the findings of one condition; empty where nothing was attacked."""
    if not evidence.attacked:
        return {}
    return {
        Finding.ATTACKED.value: float(evidence.attacked),
        Finding.ZERO_GRADIENT.value: evidence.zero_gradients / evidence.attacked,
        Finding.NONFINITE_GRADIENT.value: evidence.nonfinite_gradients / evidence.attacked,
        Finding.SILENT_SUCCESS.value: evidence.silent_successes / evidence.attacked,
        Finding.RAW_VIOLATION.value: min(evidence.violation, FARTHEST),
    }
