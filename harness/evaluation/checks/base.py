"""What a sanity check says, and what it looks at."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from harness.attacks.base import Access
from harness.evaluation.findings import ACCESS, Finding
from harness.records import CellResult, ConditionResult, Verdict

SIGNIFICANCE = 0.05
"""Largest probability, two-sided, at which a difference counts as more than chance."""
LEAST_SHARE = 0.01
"""Smaller differences between two attacks, as a share of the examples, are left alone."""

GRADIENT_ATTACKS: frozenset[Access] = frozenset({"single_step", "iterative", "ensemble"})
REPEATED_ATTACKS: frozenset[Access] = frozenset({"iterative", "ensemble"})


@dataclass(frozen=True)
class Reason:
    """One finding against a number."""

    verdict: Verdict
    """What it makes of the number on its own; PASS for a mere remark."""
    text: str


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

    def finding(self, name: Finding) -> float | None:
        """Returns a measured value, or None where it was not measured."""
        return self.condition.findings.get(name.value)

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
        position = self.finding(Finding.ACCESS)
        return None if position is None else ACCESS[int(position)]

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

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) which examples are classified correctly without an attack."""
        return self.clean_logits.argmax(axis=1) == self.labels

    @cached_property
    def eligible(self) -> NDArray[np.bool_]:
        """(N,) which examples an attack may break: correct without it, and not of the class that it aims at."""
        target = self.finding(Finding.TARGET_CLASS)
        return self.correct if target is None else self.correct & (self.labels != int(target))

    @property
    def survivors(self) -> int:
        """Number of eligible examples that the attack does not break."""
        return int((self.eligible & ~self.condition.fooled).sum())

    @property
    def robust_accuracy(self) -> float:
        """Share of all examples that are correct without the attack and that it does not break."""
        return float((self.correct & ~self.condition.fooled).mean())

    def share_of_correct(self, name: Finding) -> float:
        """Returns a share of the attacked examples as one of the eligible ones; 0 where it was not measured.

        Of a sweep that spares what is broken, the few that a larger budget is left with are no sample of the data.
        """
        found = (self.finding(name) or 0.0) * (self.finding(Finding.ATTACKED) or 0.0)
        return min(1.0, found / max(1, self.eligible.sum()))

    @property
    def success_rate(self) -> float:
        """Share of the eligible examples that the attack breaks."""
        return float(self.condition.fooled.sum() / max(1, self.eligible.sum()))


def beats(stronger: NDArray[np.bool_], weaker: NDArray[np.bool_]) -> int:
    """Returns by how many examples one attack breaks more than another, or 0 where that are few or may be chance."""
    lead = significant_lead(stronger, weaker)
    return lead if lead > LEAST_SHARE * len(stronger) else 0


def significant_lead(stronger: NDArray[np.bool_], weaker: NDArray[np.bool_]) -> int:
    """Returns by how many of the same examples (N,) one attack breaks more than another, or 0 where that may be chance.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions", in its exact form:
        of the examples that only one of the two breaks, chance gives each half.
    """
    only_stronger, only_weaker = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    if only_stronger <= only_weaker:
        return 0
    chance = binomtest(only_stronger, only_stronger + only_weaker, 0.5).pvalue
    return only_stronger - only_weaker if chance <= SIGNIFICANCE else 0


def percent(share: float) -> str:
    """Returns a share as text."""
    return f"{100 * share:.3g} %"


def of_access(rows: Iterable[Row], kinds: Iterable[Access]) -> list[Row]:
    """Returns the rows whose attack uses the model in one of these ways."""
    wanted = set(kinds)
    return [row for row in rows if row.access in wanted]
