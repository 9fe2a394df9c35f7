"""Checks of what the stages of an ensemble found one after another."""

from collections.abc import Sequence

from harness.evaluation.checks.base import Reason, Row, percent, suspect
from harness.metrics import wilson_interval
from harness.records import CUMULATIVE

LATE = "square"
"""The stage without gradients: the last one, on the examples on which all others fail."""
LATE_SHARE = 0.01
"""Share of the eligible examples on which a stage without gradients may succeed, at the lower end of its interval.

AutoAttack warns from 0.002 on, at the share itself: one of 500 examples."""

FEWEST_LATE = 2
"""One example alone says nothing, of however few."""


def gradient_stages_fail(row: Row, smaller: Sequence[Row]) -> Reason | None:
    """A random search that succeeds where the gradient stages before it did not speaks of masked or false gradients.

    Under the nested protocol its successes at the `smaller` budgets of the same attack count too. Under `bisect` one example
    may be among those of several budgets, so that the largest number counts.

    Source: Croce et al. 2021, https://arxiv.org/abs/2010.09670, on flags of AutoAttack: its `check_square_sr`.
    """
    protocol = row.result.cell.protocol
    found = [_late(it) for it in ([row, *smaller] if protocol in CUMULATIVE else [row])]
    late = max(found) if protocol == "bisect" else sum(found)
    count = int(row.eligible.sum())
    if late < FEWEST_LATE or wilson_interval(min(late, count), count).low <= LATE_SHARE:
        return None
    text = f"masked or false gradients: Square breaks {late} examples ({percent(late / count)}) that the gradient stages leave"
    return suspect(text)


def _late(row: Row) -> int:
    """Returns on how many examples Square succeeded after other stages; 0 where it ran alone or not at all."""
    stages = row.evidence.stages
    return stages[LATE].adversarial if LATE in stages and len(stages) > 1 else 0


ENSEMBLE = (gradient_stages_fail,)
"""All checks of this file."""
