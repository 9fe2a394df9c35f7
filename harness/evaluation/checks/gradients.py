"""Checks of an attack's row against what differences of outputs showed about the gradients of its model."""

from harness.evaluation.checks.base import GRADIENT_ATTACKS, Reason, Row, only_for, percent, share_of, suspect

TOO_MANY = 0.25
"""Share of the compared examples above which gradients are not trusted: a step may cross a kink for a few."""


@only_for(GRADIENT_ATTACKS)
def false_gradients(row: Row, clean: Row) -> Reason | None:
    """A backward pass of another function than the forward pass leads attacks away from adversarials.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3: shattered gradients; Tramèr et al. 2020,
        https://arxiv.org/abs/2002.08347, section 4: gradients of surrogates.
    """
    wrong = share_of(clean.network.gradients_wrong, clean.network.gradients_compared)
    if wrong <= TOO_MANY:
        return None
    where = f"differences of outputs contradict them on {percent(wrong)} of the compared examples"
    return suspect(f"gradients are not those of the forward pass: {where}")


@only_for(GRADIENT_ATTACKS)
def flat_gradients(row: Row, clean: Row) -> Reason | None:
    """A rounded input or output has no slope anywhere, and changes in jumps that gradients do not see.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3: shattered gradients by quantisation.
    """
    flat = share_of(clean.network.gradients_flat, clean.network.gradients_compared)
    if flat <= TOO_MANY:
        return None
    where = f"next to zero on {percent(flat)} of the compared examples, where outputs change in jumps"
    return suspect(f"gradients are not those of the forward pass: {where}")


GRADIENTS = (false_gradients, flat_gradients)
"""All checks of this file."""
