"""Checks of an attack's row against what was found out about its model on clean images."""

from harness.evaluation.checks.base import GRADIENT_ATTACKS, Reason, Row, percent
from harness.evaluation.findings import Finding
from harness.records import Verdict

RANDOM_FORWARD = 1e-4
"""Relative difference of logits between two passes of the same images: well above rounding, well below noise."""


def random_forward(row: Row, clean: Row) -> Reason | None:
    """Random outputs make gradients noisy; attacks must average over them.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 4.2: expectation over transformation.
    """
    difference = clean.finding(Finding.RANDOM_FORWARD) or 0.0
    if difference <= RANDOM_FORWARD:
        return None
    return Reason(Verdict.SUSPECT, f"random outputs: two passes of the same images differ by {percent(difference)}")


def no_gradient(row: Row, clean: Row) -> Reason | None:
    """Where no gradient reaches the images, an attack on gradients does not run; black-box attacks do.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3: shattered gradients.
    """
    if row.access not in GRADIENT_ATTACKS or not clean.finding(Finding.NO_GRADIENT):
        return None
    return Reason(Verdict.INVALID, "no gradient passes through the network: only black-box attacks can run on it")


def probability_outputs(row: Row, clean: Row) -> Reason | None:
    """Softmax outputs saturate: cross-entropy of them has hardly a gradient.

    Source: Carlini and Wagner 2017, https://arxiv.org/abs/1608.04644, section IV; AutoAttack warns of the same.
    """
    if not clean.finding(Finding.PROBABILITIES):
        return None
    return Reason(Verdict.SUSPECT, "the model returns probabilities instead of logits")


def unbounded_attack_fails(row: Row, clean: Row) -> Reason | None:
    """With a budget of the whole pixel range every image can become every other: accuracy must fall below chance.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.2; Athalye et al. 2018, section 3.1.
    """
    share = None if clean.finding(Finding.NO_GRADIENT) else clean.finding(Finding.UNBOUNDED_SURVIVORS)
    if row.access not in GRADIENT_ATTACKS or share is None or share <= 1 / clean.clean_logits.shape[1]:
        return None
    return Reason(Verdict.SUSPECT, f"{percent(share)} of the probed examples stand under gradients with an unlimited budget")


MODEL = (random_forward, no_gradient, probability_outputs, unbounded_attack_fails)
"""All checks of this file."""
