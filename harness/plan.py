"""From the cells of a grid to the steps that compute them: deduplicated, in the order of their dependence."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from harness.datasets.base import ImageData
from harness.grid import GridCell, cells_of
from harness.records import Cell
from harness.spec import digest_of
from harness.steps.base import DataIdentity, Examples, Step
from harness.steps.evaluate import Evaluate, Sweep
from harness.steps.train import Train
from harness.suite import Suite


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the step that computes it, and its place among that step's conditions."""

    cell: Cell
    step: Step | None
    position: int = 0
    skip: str | None = None

    @property
    def digest(self) -> str:
        """Digest of the step and the cell's own identity; unique in the grid."""
        step = None if self.step is None else self.step.digest
        return digest_of({"step": step, "cell": self.cell.model_dump(mode="json")})


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    suite: Suite
    cells: tuple[PlannedCell, ...]
    training: dict[str, Train]
    """Model label -> the step that trains it."""
    examples: Examples
    """Which examples are judged."""

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, after those it depends on."""
        return _in_order(cell.step for cell in self.cells if cell.step is not None)


def plan_of(suite: Suite, data: ImageData) -> Plan:
    """Returns the plan of a suite on its loaded data.

    Raises:
        ModelError: if a weights file that is named does not exist.
    """
    examples = Examples(suite.evaluation.split, suite.evaluation.limit, suite.seed)
    training: dict[str, Train] = {}
    for label in suite.models:
        _plan_training(suite, label, DataIdentity.of(suite.dataset, data), training)
    cells = tuple(_planned(suite, row, training[row.cell.model], examples) for row in cells_of(suite))
    return Plan(suite, cells, training, examples)


def _plan_training(suite: Suite, label: str, data: DataIdentity, training: dict[str, Train]) -> Train:
    """Adds a model's training, and before it that of the model it starts from."""
    if label not in training:
        entry = suite.models[label]
        parent = None if entry.warm_start is None else _plan_training(suite, entry.warm_start, data, training)
        training[label] = Train(
            label=label,
            architecture=suite.architecture_of(label),
            recipe=entry.recipe,
            data=data,
            resolution=suite.dataset.resolution,
            seed=suite.seed,
            warm_start=parent,
        )
    return training[label]


def _planned(suite: Suite, row: GridCell, model: Train, examples: Examples) -> PlannedCell:
    if row.skip is not None:
        return PlannedCell(row.cell, None, skip=row.skip)
    if row.threat_model is None:
        return PlannedCell(row.cell, Evaluate(model, examples))
    budgets = suite.threat_models(row.cell.attack)
    nested = row.cell.protocol == "nested"
    step = Sweep(
        model=model,
        examples=examples,
        label=row.cell.attack,
        attack=suite.attacks[row.cell.attack].plugin,
        threat_models=budgets if nested else (row.threat_model,),
        protocol="nested" if nested else "independent",
        best_of_iterates=suite.evaluation.best_of_iterates,
        seed=suite.seed,
    )
    return PlannedCell(row.cell, step, budgets.index(row.threat_model) if nested else 0)


def _in_order(wanted: Iterable[Step]) -> tuple[Step, ...]:
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.digest not in found:
            for needed in step.inputs.values():
                visit(needed)
            found[step.digest] = step

    for step in wanted:
        visit(step)
    return tuple(found.values())
