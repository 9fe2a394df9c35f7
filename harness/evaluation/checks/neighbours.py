"""Checks of an attack's row against other attacks on the same model."""

from collections.abc import Mapping, Sequence

from harness.attacks.base import Access, Shortfall
from harness.evaluation.checks.base import (
    GRADIENT_ATTACKS,
    REPEATED_ATTACKS,
    Reason,
    Row,
    beats,
    of_access,
    percent,
    significant_lead,
)
from harness.evaluation.checks.nonfinite import nonfinite_logits
from harness.evaluation.checks.single import is_sound, outside_ball
from harness.evaluation.findings import SHORTFALLS, Finding
from harness.records import Verdict

PLATEAU = (0.05, 0.95)
"""Success rates between which a larger budget must help."""
PLATEAU_FACTOR = 4
"""How much larger the budget must be."""
PLATEAU_GAIN = 0.01
"""Least gain of the success rate."""
SHORT_OF: Mapping[Shortfall, str] = {
    "budgets": "smaller budgets than the original's",
    "classes": "too few classes for all of its stages",
}
"""What a strong attack that is not conclusive ran with."""


def single_step_wins(row: Row, others: Sequence[Row]) -> Reason | None:
    """Many steps can do all that one step does.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3.1: one-step attacks perform better than
        iterative ones.
    """
    return _beaten(row, of_access(others, {"single_step"}), victims=REPEATED_ATTACKS, why="a single step")


def black_box_wins(row: Row, others: Sequence[Row]) -> Reason | None:
    """Gradients are more information than outputs alone.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3.1: black-box attacks are better than
        white-box ones.
    """
    return _beaten(row, of_access(others, {"black_box"}), victims=REPEATED_ATTACKS, why="a black-box attack")


def noise_wins(row: Row, others: Sequence[Row]) -> Reason | None:
    """Random noise finds what a gradient attack at the same budget does not.

    Source: Athalye et al. 2018, https://arxiv.org/abs/1802.00420, section 3.1: random sampling finds adversarials.
    """
    return _beaten(row, of_access(others, {"none"}), victims=GRADIENT_ATTACKS | {"black_box"}, why="random noise")


def success_shrinks(row: Row, smaller: Sequence[Row]) -> Reason | None:
    """A larger budget contains every smaller one. `smaller` are the same attack's rows at smaller budgets.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.2: accuracy against budget.
    """
    if row.access == "single_step":
        return None
    for other in smaller:
        if lead := beats(other.condition.fooled, row.condition.fooled):
            return Reason(Verdict.SUSPECT, f"breaks {lead} examples less than at the smaller budget {other.result.cell.eps}")
    return None


def success_stalls(row: Row, smaller: Sequence[Row]) -> Reason | None:
    """Success should grow with the budget until nothing is left to break.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.2.
    """
    if row.access not in REPEATED_ATTACKS or row.result.cell.eps is None:
        return None
    low, high = PLATEAU
    for other in smaller:
        eps = other.result.cell.eps
        if eps is None or row.result.cell.eps < PLATEAU_FACTOR * eps or not low < other.success_rate < high:
            continue
        if row.success_rate - other.success_rate < PLATEAU_GAIN:
            rate = percent(row.success_rate)
            return Reason(Verdict.SUSPECT, f"success stays at {rate} from budget {eps} to {row.result.cell.eps}")
    return None


def upper_bound(row: Row, others: Sequence[Row]) -> Reason | None:
    """Weak attacks bound robust accuracy from above only: a remark that does not make the number suspect.

    A strong attack that is INVALID by itself bounds nothing.

    Source: Tramèr et al. 2020, https://arxiv.org/abs/2002.08347; Croce and Hein 2020, https://arxiv.org/abs/2003.01690.
    """
    sound = [other for other in [row, *others] if is_sound(other)]
    if row.access == "none" or any(other.finding(Finding.CONCLUSIVE) for other in sound):
        return None
    for other in sound:
        if (shortfall := other.finding(Finding.SHORTFALL)) is not None:
            lack = SHORT_OF[SHORTFALLS[int(shortfall)]]
            return Reason(Verdict.PASS, f"upper bound: {other.result.cell.attack} ran with {lack}")
    kind = "strong targeted attack" if row.result.cell.targeted else "strong attack"
    return Reason(Verdict.PASS, f"upper bound: no {kind} at this budget")


def rival_leaves_less(row: Row, others: Sequence[Row]) -> Reason | None:
    """What another attack broke within the same budget bounds robust accuracy too: a remark, however strong this attack is.

    The frame judged these adversarials by itself, so they count as long as they are valid images.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705: the worst case over attacks, example by example.
    """
    lower = [it for it in others if _has_valid_images(it) and significant_lead(it.condition.fooled, row.condition.fooled)]
    if not lower:
        return None
    least = min(lower, key=lambda other: other.robust_accuracy)
    return Reason(Verdict.PASS, f"upper bound: {least.result.cell.attack} leaves {100 * least.robust_accuracy:.1f}")


def _has_valid_images(row: Row) -> bool:
    found = [check(row) for check in (outside_ball, nonfinite_logits)]
    return all(reason is None or reason.verdict is not Verdict.INVALID for reason in found)


def _beaten(row: Row, rivals: Sequence[Row], *, victims: frozenset[Access], why: str) -> Reason | None:
    if row.access not in victims:
        return None
    for rival in rivals:
        if lead := beats(rival.condition.fooled, row.condition.fooled):
            return Reason(Verdict.SUSPECT, f"{why} ({rival.result.cell.attack}) breaks {lead} examples more")
    return None


SAME_BUDGET = (single_step_wins, black_box_wins, noise_wins, upper_bound, rival_leaves_less)
SMALLER_BUDGETS = (success_shrinks, success_stalls)
