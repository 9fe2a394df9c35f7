"""Checks of a row against what was found out about its model on clean images."""

from harness.evaluation.checks.base import GRADIENT_ATTACKS, Reason, Row, invalid, only_for, percent, share_of, suspect
from harness.records.evidence import FARTHEST

CROSS_ENTROPY = GRADIENT_ATTACKS - {"ensemble"}
"""Attacks that may follow gradients of the cross-entropy alone; ensembles have other losses beside it."""
RANDOM_FORWARD = 1e-4
"""Relative difference of logits between two passes of the same images: well above rounding, well below noise."""


def random_forward(row: Row, clean: Row) -> Reason | None:
    """Random outputs make gradients noisy; attacks must average over them.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 4.2: expectation over transformation.
    """
    difference = clean.network.random_forward
    if difference <= RANDOM_FORWARD or difference > FARTHEST:  # beyond it: -inf less -inf, of a version that took that for NaN
        return None
    if difference == FARTHEST:
        return suspect("two passes of the same images differ in which logits are NaN or infinite")
    return suspect(f"random outputs: two passes of the same images differ by {percent(difference)}")


@only_for(GRADIENT_ATTACKS)
def no_gradient(row: Row, clean: Row) -> Reason | None:
    """Where no gradient reaches the images, an attack on gradients does not run; black-box attacks do.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3: shattered gradients.
    """
    blind = invalid("no gradient passes through the network: only black-box attacks can run on it")
    return blind if clean.network.no_gradient else None


@only_for(CROSS_ENTROPY)
def probability_outputs(row: Row, clean: Row) -> Reason | None:
    """Softmax outputs saturate: cross-entropy of them has hardly a gradient.

    Source: Carlini and Wagner 2017, https://arxiv.org/abs/1608.04644, section IV; AutoAttack warns of the same.
    """
    if row.evidence.margin or not _returns_probabilities(clean):
        return None
    return suspect("the model returns probabilities instead of logits")


@only_for(CROSS_ENTROPY)
def bounded_outputs(row: Row, clean: Row) -> Reason | None:
    """Whatever squashes outputs into an interval saturates at its ends as a softmax does.

    Source: Carlini and Wagner 2017, https://arxiv.org/abs/1608.04644, section IV; Croce and Hein 2020,
        https://arxiv.org/abs/2003.01690, section 4: a ratio of differences between logits does not depend on their scale.
    """
    if row.evidence.margin or not clean.network.bounded or _returns_probabilities(clean):
        return None
    return suspect("the model returns bounded outputs instead of logits, as a sigmoid does: they saturate")


def _returns_probabilities(clean: Row) -> bool:
    return 0 < clean.network.probed == clean.network.probabilities


@only_for(GRADIENT_ATTACKS)
def unbounded_attack_fails(row: Row, clean: Row) -> Reason | None:
    """With a budget of the whole pixel range every image can become every other: accuracy must fall below chance.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.2; Athalye et al. 2018, section 3.1.
    """
    failures = 0.0 if clean.network.no_gradient else share_of(clean.network.unbounded_failures, clean.network.probed)
    if failures <= 1 / clean.clean_logits.shape[1]:
        return None
    return suspect(f"gradient steps with an unlimited budget fail on {percent(failures)} of the probed examples")


def depends_on_the_batch(row: Row, clean: Row) -> Reason | None:
    """Where other images change an image's logits, accuracies are those of one order of the examples in one size of batch.

    Attacks leave out examples that are adversarial already, so the logits of the rest move without any change of theirs.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5: a defense is a function of its input.
    """
    difference, changed = clean.network.batch_dependence, share_of(clean.network.batch_changed, clean.network.batch_tried)
    if not difference:
        return None
    what = "the other images of a batch change an image's logits"
    if changed:
        return invalid(f"{what}, and the class of {percent(changed)} of the probed examples")
    by = "to NaN or infinity" if difference >= FARTHEST else f"by {percent(difference)} of the largest"
    return suspect(f"{what}, {by}")


MODEL = (random_forward, no_gradient, probability_outputs, bounded_outputs, unbounded_attack_fails)
"""Checks of an attack's row."""
NETWORK = (depends_on_the_batch,)
"""Checks of every row, the clean one included."""
