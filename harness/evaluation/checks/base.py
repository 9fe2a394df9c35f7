"""What a sanity check says, what it looks at, and of which rows."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Concatenate, ParamSpec

import numpy as np
from numpy.typing import NDArray

from harness.metrics import mcnemar_exact
from harness.records import CellResult, ConditionResult, Verdict
from harness.records.evidence import Access, Evidence, NetworkEvidence

SIGNIFICANCE = 0.05
"""Largest probability, two-sided, at which a difference counts as more than chance."""
LEAST_SHARE = 0.01
"""Smaller differences between two attacks, as a share of the examples, are left alone."""

P = ParamSpec("P")
GRADIENT_ATTACKS: frozenset[Access] = frozenset({"single_step", "iterative", "ensemble"})
REPEATED_ATTACKS: frozenset[Access] = frozenset({"iterative", "ensemble"})


@dataclass(frozen=True)
class Reason:
    """One finding against a number."""

    verdict: Verdict
    """What it makes of the number on its own; PASS for a mere remark."""
    text: str


def invalid(text: str) -> Reason:
    """Returns a reason by which the number is none."""
    return Reason(Verdict.INVALID, text)


def suspect(text: str) -> Reason:
    """Returns a reason to mistrust the number."""
    return Reason(Verdict.SUSPECT, text)


def remark(text: str) -> Reason:
    """Returns a reason that leaves the verdict as it is."""
    return Reason(Verdict.PASS, text)


@dataclass(frozen=True, eq=False)
class Row:
    """A finished row with what the checks ask of it."""

    result: CellResult
    condition: ConditionResult
    labels: NDArray[np.int64]
    clean_logits: NDArray[np.float32]

    @staticmethod
    def of(result: CellResult) -> "Row | None":
        """Returns the row of a result, or None where it has no numbers."""
        if result.condition is None or result.labels is None or result.clean_logits is None:
            return None
        return Row(result, result.condition, result.labels, result.clean_logits)

    @property
    def evidence(self) -> Evidence:
        """What the run showed."""
        return self.condition.evidence

    @property
    def network(self) -> NetworkEvidence:
        """What a clean row's run showed about the network."""
        return self.condition.evidence.network

    @property
    def is_attack(self) -> bool:
        """Whether the row is one of an attack."""
        return self.result.cell.kind.is_attack

    @property
    def is_sample(self) -> bool:
        """Whether the examples stand for the data set; those that a poison aims at do not."""
        return self.result.cell.kind.represents_data

    @property
    def is_folder(self) -> bool:
        """Whether the row is one of a folder of images, which stand for the clean ones too."""
        return self.result.cell.condition == "folder"

    @property
    def access(self) -> Access | None:
        """What the attack uses of the model."""
        return self.evidence.access

    @property
    def model_key(self) -> tuple[object, ...]:
        """Equal for all rows of one model on one set of examples."""
        cell = self.result.cell
        return cell.dataset, cell.model, cell.poison, cell.poison_rate, cell.seed

    @property
    def budget_key(self) -> tuple[object, ...]:
        """Equal for all attacks on one model at one budget."""
        cell = self.result.cell
        return *self.model_key, cell.norm, cell.eps, cell.targeted, cell.target_class

    @property
    def attack_key(self) -> tuple[object, ...]:
        """Equal for one attack on one model at all of its budgets."""
        cell = self.result.cell
        return *self.model_key, cell.attack, cell.norm, cell.targeted, cell.target_class

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) which examples are classified correctly without an attack."""
        return self.clean_logits.argmax(axis=1) == self.labels

    @cached_property
    def eligible(self) -> NDArray[np.bool_]:
        """(N,) which examples an attack may make adversarial: correct without it, and not of the class that it aims at."""
        target = self.evidence.target_class
        return self.correct if target is None else self.correct & (self.labels != target)

    @property
    def active(self) -> int:
        """Number of eligible examples on which the attack had no success."""
        return int((self.eligible & ~self.condition.is_adversarial).sum())

    @property
    def robust_accuracy(self) -> float:
        """Share of all examples that are correct without the attack and on which it had no success."""
        return float((self.correct & ~self.condition.is_adversarial).mean())

    def share_of_eligible(self, count: int) -> float:
        """Returns a number of attacked examples as a share of the eligible ones.

        Those that a larger budget of a nested sweep is left with are few, and no sample of the data.
        """
        return min(1.0, count / max(1, self.eligible.sum()))

    @property
    def success_rate(self) -> float:
        """Share of the eligible examples that the attack makes adversarial."""
        return float(self.condition.is_adversarial.sum() / max(1, self.eligible.sum()))


Check = Callable[Concatenate[Row, P], Reason | None]
"""Says something against a row, or nothing; it may look at other rows too."""


def only_for(kinds: Collection[Access]) -> Callable[[Check[P]], Check[P]]:
    """Limits a check to attacks that use the model in one of these ways: of all other rows it says nothing."""

    def limited(check: Check[P]) -> Check[P]:
        @wraps(check)
        def checked(row: Row, /, *others: P.args, **named: P.kwargs) -> Reason | None:
            return check(row, *others, **named) if row.access in kinds else None

        return checked

    return limited


def beats(stronger: NDArray[np.bool_], weaker: NDArray[np.bool_]) -> int:
    """Returns on how many examples more one attack succeeds than another, or 0 where these are few or may be chance."""
    lead = significant_lead(stronger, weaker)
    return lead if lead > LEAST_SHARE * len(stronger) else 0


def significant_lead(stronger: NDArray[np.bool_], weaker: NDArray[np.bool_]) -> int:
    """Returns on how many more of the same examples (N,) one attack succeeds than another, or 0 where that may be chance.

    Source: McNemar's exact test, see `harness.metrics.mcnemar_exact`.
    """
    only_stronger, only_weaker = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    if only_stronger <= only_weaker:
        return 0
    return only_stronger - only_weaker if mcnemar_exact(only_stronger, only_weaker) <= SIGNIFICANCE else 0


def share_of(count: int, whole: int) -> float:
    """Returns a count as a share of a whole; 0 where there is no whole."""
    return count / whole if whole else 0.0


def percent(share: float) -> str:
    """Returns a share as text."""
    return f"{100 * share:.3g} %"


def of_access(rows: Iterable[Row], kinds: Iterable[Access]) -> list[Row]:
    """Returns the rows whose attack uses the model in one of these ways."""
    wanted = set(kinds)
    return [row for row in rows if row.access in wanted]
