"""How large a grid is, counted before any of its cells is made."""

from collections.abc import Mapping

from harness.suites.base import BaseSuite, Variant

MOST_TRAININGS = 10_000
"""Trainings of a grid; each is kept in the store with its weights."""
MOST_CELLS = 250_000
"""Rows of a grid: 1,000 models, clean and under 20 attacks at 10 budgets, have 201,000; the largest shipped grid has hundreds."""


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
    budgets = {label: len(suite.threat_models(label)) for label in suite.attacks}
    rows = sum(_rows(suite, variant, budgets) for variant in suite.variants())
    if rows > MOST_CELLS:
        raise ValueError(f"models: expected a grid of at most {MOST_CELLS} rows, got {rows}")


def _rows(suite: BaseSuite, variant: Variant, budgets: Mapping[str, int]) -> int:
    """Returns the rows of one model; repetitions of a poison have none of attacks, corruptions and folders.

    Args:
        suite: The suite.
        variant: The model.
        budgets: Label of each attack -> number of its budgets.
    """
    of_poison = 0 if variant.poison is None else len(suite.poisons[variant.poison].plugin.conditions)
    if variant.repetition:
        return 1 + of_poison
    attacked = sum(count for label, count in budgets.items() if suite.attacks_model(label, variant.model))
    severities = sum(len(corruption.severities) for corruption in suite.corruptions.values())
    return 1 + of_poison + attacked + severities + len(suite.folders)
