"""Checks that look at one row alone."""

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.checks.base import GRADIENT_ATTACKS, Reason, Row, invalid, only_for, percent, remark, suspect
from harness.evaluation.checks.nonfinite import NONFINITE
from harness.metrics import wilson_interval
from harness.records import Verdict
from harness.threat import TOLERANCE

RAW_TOLERANCE = 1e-4
"""An attack whose own output leaves the ball by more than this is faulty, though the frame projects it."""
ZERO_GRADIENTS_SUSPECT, ZERO_GRADIENTS_INVALID = 0.05, 0.5
"""Shares of the initially correct examples without any gradient."""
NONFINITE_INVALID = 0.5
"""Share of the initially correct examples with a gradient that is not finite."""
SILENT_SUCCESS = 0.01
"""Share of the attacked examples whose adversarial the attack found and lost, at the lower end of its interval."""
FEWEST_LOST = 2
"""One example alone says nothing, of however few."""


def outside_ball(row: Row) -> Reason | None:
    """The judged images must lie inside ball and bounds, and the attack's own ones should.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.1: adversarials must be valid.
    """
    if row.condition.max_violation > TOLERANCE:
        return invalid(f"images outside the ball or [0,1] by {row.condition.max_violation:.2g}")
    raw = row.evidence.violation
    if raw > RAW_TOLERANCE:
        return suspect(f"the attack left the ball or [0,1] by {raw:.2g} before it was projected")
    return None


@only_for(GRADIENT_ATTACKS)
def dead_attack(row: Row) -> Reason | None:
    """An attack on gradients that never asks for one, and leaves examples without success, did not run.

    Where none is left the frame ended it: at large budgets the random start alone may be a success on all.

    Source: a public benchmark carries a row with one forward and no backward pass; Carlini et al. 2019, section 5.
    """
    if not row.evidence.attacked or not row.active:
        return None
    return invalid("dead attack: no backward pass") if row.evidence.gradients == 0 else None


@only_for(GRADIENT_ATTACKS)
def zero_gradients(row: Row) -> Reason | None:
    """Without gradients a gradient attack is blind.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3: shattered and vanishing gradients.
    """
    share = row.share_of_eligible(row.evidence.zero_gradients)
    if share < ZERO_GRADIENTS_SUSPECT:
        return None
    verdict = Verdict.INVALID if share >= ZERO_GRADIENTS_INVALID else Verdict.SUSPECT
    return Reason(verdict, f"all gradients are zero for {percent(share)} of the correct examples")


def nonfinite_gradients(row: Row) -> Reason | None:
    """NaN or infinite gradients make steps and signs meaningless.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3.
    """
    share = row.share_of_eligible(row.evidence.nonfinite_gradients)
    if not share:
        return None
    verdict = Verdict.INVALID if share >= NONFINITE_INVALID else Verdict.SUSPECT
    return Reason(verdict, f"gradients are not finite for {percent(share)} of the correct examples")


def silent_success(row: Row) -> Reason | None:
    """An attack that passes an adversarial and returns something else understates itself.

    What counts is what the attack was told: of an example that the frame holds adversarial it was told that every later
    image is adversarial, and may return one of those.

    Source: Pintor et al. 2022, "Indicators of attack failure", https://arxiv.org/abs/2106.09947: silent success.
    """
    lost, attacked = row.evidence.silent_successes, row.evidence.attacked
    if lost < FEWEST_LOST or wilson_interval(lost, attacked).low <= SILENT_SUCCESS:
        return None
    return Reason(
        Verdict.SUSPECT, f"silent success: the attack found and lost adversarials of {percent(lost / attacked)} of the examples"
    )


def unconverged(row: Row) -> Reason | None:
    """Twice the steps should change the robust accuracy by less than half its interval.

    Only some active examples were tried: the share of successes among them is at least the lower end of its own interval.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.4: attacks must have converged.
    """
    tried, successes = row.evidence.doubled_steps_tried, row.evidence.doubled_steps_successes
    if not tried:
        return None
    interval = wilson_interval(row.active, len(row.labels))
    drop = wilson_interval(successes, tried).low * row.active / len(row.labels)
    if drop <= (interval.high - interval.low) / 2:
        return None
    return suspect(f"twice the steps succeed on {successes} of {tried} examples without success: not converged")


def constant_prediction(row: Row) -> Reason | None:
    """A model that gives one answer for everything is not robust but collapsed.

    Source: public tables rank nets with a constant prediction; Tramèr et al. 2020, https://arxiv.org/abs/2002.08347.
    """
    if not row.is_sample or row.is_folder or not _is_one_answer(row.clean_logits, row.labels):
        return None
    return Reason(Verdict.INVALID if row.is_attack else Verdict.SUSPECT, "the model predicts one class for every clean image")


def constant_condition(row: Row) -> Reason | None:
    """Images that all get one answer, corrupted or of another source, are not told apart any more.

    A trigger is meant to do that, so that its images are left out.

    Source: as of `constant_prediction`.
    """
    condition = row.result.cell.condition
    if condition not in ("corruption", "folder") or not _is_one_answer(row.condition.logits, row.labels):
        return None
    return suspect(f"the model predicts one class for every image of this {condition}")


def nothing_eligible(row: Row) -> Reason | None:
    """A success rate is of examples that were classified correctly before: of none there is none, which is no success of 0.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5: what was wrong before is no success of an attack.
    """
    if row.result.cell.condition not in ("trigger", "target") or row.correct.any():
        return None
    return remark("no attack success rate: no example was classified correctly before")


def chance_level(row: Row) -> Reason | None:
    """A clean accuracy that guessing the commonest class reaches says nothing of robustness.

    The threshold is that class's share of the examples; the lower end of the accuracy's interval must lie above it.

    Source: Kuhn, "The caret package", https://topepo.github.io/caret/measuring-performance.html: the test of an accuracy
        against the no-information rate, the share of the largest class.
    """
    counts = np.unique(row.labels, return_counts=True)[1]
    interval = wilson_interval(int(row.correct.sum()), len(row.labels))
    if not row.is_sample or len(counts) < 2 or interval.low > counts.max() / len(row.labels):
        return None
    return suspect(f"clean accuracy {percent(float(row.correct.mean()))} is no better than a constant guess")


SINGLE = (
    outside_ball,
    *NONFINITE,
    dead_attack,
    zero_gradients,
    nonfinite_gradients,
    silent_success,
    unconverged,
    constant_prediction,
    constant_condition,
    nothing_eligible,
    chance_level,
)
"""All checks of one row alone."""


def _is_one_answer(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> bool:
    """Whether images of several classes, labels (N,), are all given one class by their logits (N, K)."""
    return len(np.unique(labels)) > 1 and len(np.unique(logits.argmax(axis=1))) == 1


def is_sound(row: Row) -> bool:
    """Whether no check of one row alone makes the row INVALID."""
    return not any(reason.verdict is Verdict.INVALID for check in SINGLE if (reason := check(row)) is not None)
