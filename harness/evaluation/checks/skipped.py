"""What the attacks that the protocol `bisect` skipped say, once a part of them is run after all."""

from harness.evaluation.checks.base import Reason, Row, remark, suspect
from harness.metrics import wilson_interval

SKIPPED_SHARE = 0.01
"""Share of the skipped attacks that may be a success, at the lower end of its interval."""
FEWEST_SUCCESSES = 2
"""One example alone says nothing, of however few: another random start may do it."""


def skipped_attacks(row: Row) -> Reason | None:
    """A smaller budget should not succeed where a larger one does not: `bisect` takes that for granted.

    Every image of the smaller ball lies in the larger one, so an attack that succeeds in the smaller ball alone misses
    adversarials at the larger budget.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5: a larger budget must not lower the success.
    """
    tried, successes = row.evidence.skipped_tried, row.evidence.skipped_successes
    if not tried:
        return None
    rest = f", of {row.evidence.skipped} skipped" if tried < row.evidence.skipped else ", all that were skipped"
    text = f"bisect: {successes} of {tried} skipped attacks tried again succeed{rest}"
    doubtful = successes >= FEWEST_SUCCESSES and wilson_interval(successes, tried).low > SKIPPED_SHARE
    return suspect(text) if doubtful else remark(text)


SKIPPED = (skipped_attacks,)
"""All checks of this file."""
