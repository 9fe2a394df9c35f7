"""Checks of an attack's row against other attacks on the same model."""

from collections.abc import Mapping, Sequence

from harness.evaluation.checks.base import (
    GRADIENT_ATTACKS,
    REPEATED_ATTACKS,
    Reason,
    Row,
    beats,
    of_access,
    only_for,
    percent,
    remark,
    significant_lead,
    suspect,
)
from harness.evaluation.checks.nonfinite import nonfinite_logits
from harness.evaluation.checks.single import is_sound, outside_ball
from harness.records import Verdict
from harness.records.evidence import Shortfall

PLATEAU = (0.05, 0.95)
"""Success rates between which a larger budget must help."""
PLATEAU_FACTOR = 4
"""How much larger the budget must be."""
PLATEAU_GAIN = 0.01
"""Least gain of the success rate."""
SHORT_OF: Mapping[Shortfall, str] = {
    "budgets": "smaller budgets than the original's",
    "classes": "too few classes for all of its stages",
    "audit": "no audit at this budget",
}
"""What a strong attack that is not conclusive ran with."""


@only_for(REPEATED_ATTACKS)
def single_step_wins(row: Row, others: Sequence[Row]) -> Reason | None:
    """Many steps can do all that one step does.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3.1: one-step attacks perform better than
        iterative ones.
    """
    return _beaten(row, of_access(others, {"single_step"}), why="a single step")


@only_for(REPEATED_ATTACKS)
def black_box_wins(row: Row, others: Sequence[Row]) -> Reason | None:
    """Gradients are more information than outputs alone.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3.1: black-box attacks are better than
        white-box ones.
    """
    return _beaten(row, of_access(others, {"black_box"}), why="a black-box attack")


@only_for(GRADIENT_ATTACKS | {"black_box"})
def noise_wins(row: Row, others: Sequence[Row]) -> Reason | None:
    """Random noise finds what a gradient attack at the same budget does not.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3.1: random sampling finds adversarials.
    """
    return _beaten(row, of_access(others, {"none"}), why="random noise")


def success_shrinks(row: Row, smaller: Sequence[Row]) -> Reason | None:
    """A larger budget contains every smaller one. `smaller` are the same attack's rows at smaller budgets.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.2: accuracy against budget.
    """
    if row.access == "single_step":
        return None
    for other in smaller:
        if lead := beats(other.condition.is_adversarial, row.condition.is_adversarial):
            return suspect(f"breaks {lead} examples less than at the smaller budget {other.result.cell.eps}")
    return None


@only_for(REPEATED_ATTACKS)
def success_stalls(row: Row, smaller: Sequence[Row]) -> Reason | None:
    """Success should grow with the budget until no example is left.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.2.
    """
    if row.result.cell.eps is None:
        return None
    low, high = PLATEAU
    for other in smaller:
        eps = other.result.cell.eps
        if eps is None or row.result.cell.eps < PLATEAU_FACTOR * eps or not low < other.success_rate < high:
            continue
        if row.success_rate - other.success_rate < PLATEAU_GAIN:
            rate = percent(row.success_rate)
            return suspect(f"success stays at {rate} from budget {eps} to {row.result.cell.eps}")
    return None


def upper_bound(row: Row, others: Sequence[Row]) -> Reason | None:
    """Weak attacks bound robust accuracy from above only: a remark that does not make the number suspect.

    A strong attack that is INVALID by itself bounds nothing.

    Source: Tramèr et al. 2020, https://arxiv.org/abs/2002.08347; Croce and Hein 2020, https://arxiv.org/abs/2003.01690.
    """
    sound = [other for other in [row, *others] if is_sound(other)]
    if row.access == "none" or any(other.evidence.conclusive for other in sound):
        return None
    for other in sound:
        if other.evidence.shortfall is not None:
            lack = SHORT_OF[other.evidence.shortfall]
            return remark(f"upper bound: {other.result.cell.attack} ran with {lack}")
    kind = "strong targeted attack" if row.result.cell.targeted else "strong attack"
    return remark(f"upper bound: no {kind} at this budget")


def rival_leaves_less(row: Row, others: Sequence[Row]) -> Reason | None:
    """The successes of another attack within the same budget bound robust accuracy too: a remark, however strong this attack is.

    The frame judged these adversarials by itself, so they count as long as they are valid images.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705: the worst case over attacks, example by example.
    """
    lower = [
        it
        for it in others
        if _has_valid_images(it) and significant_lead(it.condition.is_adversarial, row.condition.is_adversarial)
    ]
    if not lower:
        return None
    least = min(lower, key=lambda other: other.robust_accuracy)
    return remark(f"upper bound: {least.result.cell.attack} leaves {100 * least.robust_accuracy:.1f}")


def _has_valid_images(row: Row) -> bool:
    found = [check(row) for check in (outside_ball, nonfinite_logits)]
    return all(reason is None or reason.verdict is not Verdict.INVALID for reason in found)


def _beaten(row: Row, rivals: Sequence[Row], *, why: str) -> Reason | None:
    for rival in rivals:
        if lead := beats(rival.condition.is_adversarial, row.condition.is_adversarial):
            return suspect(f"{why} ({rival.result.cell.attack}) breaks {lead} examples more")
    return None


SAME_BUDGET = (single_step_wins, black_box_wins, noise_wins, upper_bound, rival_leaves_less)
SMALLER_BUDGETS = (success_shrinks, success_stalls)
