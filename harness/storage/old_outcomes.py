"""Reads the evidence of outcomes that were stored as version 1: numbers by name, counts among them as shares."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, get_args

from harness.records.evidence import Access, Evidence, NetworkEvidence, Shortfall, StageEvidence

STAGE = "adversarial_by_stage_"
"""Began the names of what each stage of an ensemble made adversarial."""
COUNTS: Mapping[str, str] = {
    "attacked": "attacked",
    "batch_size": "batch_size",
    "doubled_steps_tried": "doubled_steps_tried",
    "doubled_steps_successes": "doubled_steps_broken",
}
"""Field of the evidence -> name of the number of version 1."""
OF_ATTACKED: Mapping[str, str] = {
    "gradients": "gradients",
    "zero_gradients": "zero_gradient_share",
    "nonfinite_gradients": "nonfinite_gradient_share",
    "silent_successes": "silent_success_share",
}
"""The same of those that were stored for each attacked example."""
MOST_COMPARED = 6
"""Examples on which gradients were compared, at most."""
MOST_TRIED = 16
"""Images that were passed in other batches, at most."""


def evidence_of_findings(findings: Mapping[str, float]) -> Evidence:
    """Returns the evidence that findings of version 1 stand for.

    A count whose whole was not stored is one of the smallest whole that gives its share.

    >>> evidence_of_findings({"access": 2.0, "attacked": 40.0, "zero_gradient_share": 0.1}).zero_gradients
    4
    """
    attacked = int(findings.get("attacked", 0))
    nonfinite = Fraction(findings.get("nonfinite_images_share", 0.0)).limit_denominator(max(1, attacked))
    numbers: dict[str, Any] = {
        "access": _named(get_args(Access), findings.get("access")),
        "conclusive": findings.get("conclusive") == 1,
        "shortfall": _named(get_args(Shortfall), findings.get("shortfall")),
        "margin": findings.get("margin") == 1,
        "target_class": None if "target_class" not in findings else int(findings["target_class"]),
        "compiled": None if "compiled" not in findings else findings["compiled"] == 1,
        "bfloat16": None if "bfloat16" not in findings else findings["bfloat16"] == 1,
        "returned": nonfinite.denominator if nonfinite else 0,
        "nonfinite_images": nonfinite.numerator,
        "violation": findings.get("raw_violation", 0.0),
        "stages": {
            name.removeprefix(STAGE): StageEvidence(adversarial=int(count))
            for name, count in findings.items()
            if name.startswith(STAGE)
        },
    }
    numbers |= {name: int(findings.get(old, 0)) for name, old in COUNTS.items()}
    numbers |= {name: round(findings.get(old, 0.0) * attacked) for name, old in OF_ATTACKED.items()}
    return Evidence(network=_network(findings), **numbers)


def _network(findings: Mapping[str, float]) -> NetworkEvidence:
    probed = int(findings.get("probed", 0))
    changed, tried = _as_counts(findings, "batch_changes_share", MOST_TRIED)
    wrong, compared = _as_counts(findings, "wrong_gradient_share", MOST_COMPARED)
    flat, also_compared = _as_counts(findings, "flat_gradient_share", MOST_COMPARED)
    return NetworkEvidence(
        probed=probed,
        unbounded_failures=round(findings.get("unbounded_survivors_share", 0.0) * probed),
        probabilities=probed if findings.get("probabilities") == 1 else 0,
        bounded=findings.get("bounded_outputs") == 1,
        no_gradient=findings.get("no_gradient") == 1,
        random_forward=findings.get("random_forward", 0.0),
        batch_tried=tried,
        batch_changed=changed,
        batch_dependence=findings.get("batch_dependence", 0.0),
        gradients_compared=compared * also_compared,
        gradients_wrong=wrong * also_compared,
        gradients_flat=flat * compared,
    )


def _named(names: tuple[Any, ...], position: float | None) -> Any:
    return None if position is None else names[int(position)]


def _as_counts(findings: Mapping[str, float], name: str, most: int) -> tuple[int, int]:
    """Returns the smallest count, and the whole it is of, that give a stored share; (0, 0) where it was not stored."""
    if name not in findings:
        return 0, 0
    share = Fraction(findings[name]).limit_denominator(most)
    return share.numerator, share.denominator
