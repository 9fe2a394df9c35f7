"""The kinds of conditions that a model is scored under: one table, with a row for each kind.

A new kind takes a row here, a field of `Suite`, its rows in `planning/grid.py`, and a step in `steps/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

CLEAN = "clean"
ATTACK = "attack"
TRIGGER = "trigger"

Strength = Literal["eps", "severity", "poison_rate"]
"""The column of cells.csv that says how strong a condition is."""


@dataclass(frozen=True)
class ConditionKind:
    """One kind of condition."""

    name: str
    """Value of the column `condition`."""
    is_attack: bool = False
    """Whether an attack made the images, so that its frame says which are adversarial and a row has a robust accuracy."""
    aims_at_target: bool = False
    """Whether it succeeds where the prediction becomes the poison's target class."""
    own_examples: bool = False
    """Whether it is scored on examples of its own, not on those of the evaluation."""
    represents_data: bool = True
    """Whether its examples represent the data set; single images that a poison aims at do not."""
    has_before: bool = True
    """Whether before_after.csv has a row for it: its scores beside those on the same examples before it."""
    shown_of_model: bool = False
    """Whether the page shows it of every model; attacks are shown at the reference budget."""
    named_by: Literal["attack", "corruption"] | None = None
    """The column that holds its label in the suite; a kind without one is called by its own name."""
    prefix: str = ""
    """Text before the label."""
    strength: Strength = "poison_rate"
    """The column that its tables are sorted by."""
    strength_name: str = "Poison rate"
    """Heading of that column on the page."""
    in_words: str = ""
    """How an expectation names its images."""

    def label(self, row: Mapping[Any, Any]) -> str:
        """Returns what was done to the images of a row of cells.csv, without its strength: "pgd", "fog", "folder street"."""
        return self.name if self.named_by is None else f"{self.prefix}{row[self.named_by]}"


CONDITIONS: Mapping[str, ConditionKind] = {
    kind.name: kind
    for kind in (
        ConditionKind(CLEAN, has_before=False, shown_of_model=True, in_words="on clean images"),
        ConditionKind(ATTACK, is_attack=True, named_by="attack", strength="eps", strength_name="eps"),
        ConditionKind("corruption", named_by="corruption", strength="severity", strength_name="Severity"),
        ConditionKind("folder", own_examples=True, has_before=False, shown_of_model=True, named_by="attack", prefix="folder "),
        ConditionKind(TRIGGER, aims_at_target=True, own_examples=True, shown_of_model=True, in_words="on triggered images"),
        ConditionKind(
            "target", aims_at_target=True, own_examples=True, represents_data=False, in_words="on the poison's targets"
        ),
    )
}
"""Name -> kind, in the order in which a model's rows are explained."""

OF_POISONED_MODELS = (CLEAN, *(kind.name for kind in CONDITIONS.values() if kind.aims_at_target))
"""The kinds that measure what a poison does; expectations may name them, and a model trained anew has a row for each."""


def condition_kind(name: str) -> ConditionKind:
    """Returns the kind of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in CONDITIONS:
        raise ValueError(f"condition: expected one of {', '.join(CONDITIONS)}, got {name!r}")
    return CONDITIONS[name]


def names_where(wanted: Callable[[ConditionKind], bool]) -> list[str]:
    """Returns the names of the kinds that a predicate holds of."""
    return [kind.name for kind in CONDITIONS.values() if wanted(kind)]
