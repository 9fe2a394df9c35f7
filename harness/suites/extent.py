"""How large a grid is, counted before any of its cells is made."""

from harness.suites.base import BaseSuite

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
    severities = sum(len(corruption.severities) for corruption in suite.corruptions.values())
    conditions = 1 + sum(len(suite.threat_models(label)) for label in suite.attacks) + severities + len(suite.folders)
    if trainings * conditions > MOST_CELLS:
        found = f"{trainings} trainings under {conditions} conditions"
        raise ValueError(f"models: expected a grid of at most {MOST_CELLS} rows, got {found}")
