"""How large a grid is, counted before any of its cells is made."""

from harness.suites.base import BaseSuite, Variant

MOST_TRAININGS = 10_000
"""Trainings of a grid; each is kept in the store with its weights."""
MOST_CELLS = 200_000
"""Rows of a grid; the largest shipped one has some hundreds."""


def check_extent(suite: BaseSuite) -> None:
    """Checks that a grid has no more models and rows than a plan can hold.

    Raises:
        ValueError: if it has; begins with the field that makes it so large.
    """
    trainings = 0
    for label in suite.models:
        trainings += 1
        for poison in suite.poisons_of(label):
            entry = suite.poisons[poison]
            trainings += len(entry.rates) * entry.seeds
            if trainings > MOST_TRAININGS:
                expected = f"expected a grid of at most {MOST_TRAININGS} trainings"
                raise ValueError(f"poisons.{poison}.seeds: {expected}, got {entry.seeds} at each of {len(entry.rates)} rates")
    if trainings > MOST_TRAININGS:
        raise ValueError(f"models: expected at most {MOST_TRAININGS}, got {trainings}")
    rows = sum(_rows(suite, variant) for variant in suite.variants())
    if rows > MOST_CELLS:
        raise ValueError(f"models: expected a grid of at most {MOST_CELLS} rows, got {rows}")


def _rows(suite: BaseSuite, variant: Variant) -> int:
    """Returns the rows of one model; repetitions of a poison have none of attacks, corruptions and folders."""
    of_poison = 0 if variant.poison is None else len(suite.poisons[variant.poison].plugin.conditions)
    if variant.repetition:
        return 1 + of_poison
    attacks = [label for label in suite.attacks if suite.attacks_model(label, variant.model)]
    severities = sum(len(corruption.severities) for corruption in suite.corruptions.values())
    return 1 + of_poison + sum(len(suite.threat_models(label)) for label in attacks) + severities + len(suite.folders)
