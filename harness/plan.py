"""From the cells of a grid to the steps that compute them: deduplicated, in the order of their dependence."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from harness.grid import GridCell, cells_of
from harness.images import ImageData
from harness.records import Cell
from harness.spec import digest_of
from harness.steps.base import DataIdentity, Examples, Step
from harness.steps.conditions import Corrupted, Trigger
from harness.steps.evaluate import Evaluate, Judgement, Sweep
from harness.steps.poison import Poisoning
from harness.steps.train import Train
from harness.suite import Suite, Variant
from harness.threat import ThreatModel


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the step that computes it, and its place among that step's conditions."""

    cell: Cell
    step: Judgement | None
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
    training: dict[Variant, Train]
    """Every model of the grid -> the step that trains it."""
    examples: Examples
    """Which examples are judged."""

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, after those it depends on."""
        return _in_order(cell.step for cell in self.cells if cell.step is not None)


def plan_of(suite: Suite, data: ImageData) -> Plan:
    """Returns the plan of a suite on its loaded data.

    Raises:
        SuiteError: if a poison does not fit the data: unknown class, too few examples for the rate, trigger too large.
        ModelError: if a weights file that is named does not exist.
    """
    _check_poisons(suite, data)
    planner = _Planner(suite, data)
    cells = tuple(planner.planned(row) for row in cells_of(suite))
    return Plan(suite, cells, planner.training, planner.examples)


def _check_poisons(suite: Suite, data: ImageData) -> None:
    labels = data.splits["train"].labels
    for entry in suite.poisons.values():
        for rate in entry.rates:
            entry.plugin.check(data.class_names, labels, resolution=suite.dataset.resolution, rate=rate)


class _Planner:
    """Turns cells into steps; every training is made once."""

    def __init__(self, suite: Suite, data: ImageData) -> None:
        self.suite = suite
        self.data = DataIdentity.of(suite.dataset, data)
        self.examples = Examples(suite.evaluation.split, suite.evaluation.limit, suite.seed)
        self.training: dict[Variant, Train] = {}

    def planned(self, row: GridCell) -> PlannedCell:
        """Returns a cell of the grid with its step."""
        if row.skip is not None:
            return PlannedCell(row.cell, None, skip=row.skip)
        model = self._train(row.variant)
        if row.cell.condition == "trigger" and row.variant.poison is not None:
            poison = self.suite.poisons[row.variant.poison].plugin
            return PlannedCell(row.cell, Trigger(model, row.variant.poison, poison))
        if row.cell.condition == "corruption":
            return self._corrupted(row, model)
        if row.threat_model is None:
            return PlannedCell(row.cell, Evaluate(model, self.examples))
        return self._attacked(row, row.threat_model, model)

    def _corrupted(self, row: GridCell, model: Train) -> PlannedCell:
        label = row.cell.corruption or ""
        condition = self.suite.corruptions[label]
        step = Corrupted(model, self.examples, label, condition, self.suite.seed)
        return PlannedCell(row.cell, step, condition.severities.index(row.cell.severity))

    def _attacked(self, row: GridCell, threat_model: ThreatModel, model: Train) -> PlannedCell:
        """A nested sweep is one step for all budgets; independent budgets are a step each."""
        budgets = self.suite.threat_models(row.cell.attack)
        nested = row.cell.protocol == "nested"
        step = Sweep(
            model=model,
            examples=self.examples,
            label=row.cell.attack,
            attack=self.suite.attacks[row.cell.attack].plugin,
            threat_models=budgets if nested else (threat_model,),
            protocol="nested" if nested else "independent",
            best_of_iterates=self.suite.evaluation.best_of_iterates,
            seed=self.suite.seed,
        )
        return PlannedCell(row.cell, step, budgets.index(threat_model) if nested else 0)

    def _train(self, variant: Variant) -> Train:
        """Returns the training of a model, planned after that of the model it starts from."""
        if variant not in self.training:
            entry = self.suite.models[variant.model]
            parent = None if entry.warm_start is None else self._train(variant._replace(model=entry.warm_start))
            self.training[variant] = Train(
                label=variant.title,
                architecture=self.suite.architecture_of(variant.model),
                recipe=entry.recipe,
                data=self.data,
                resolution=self.suite.dataset.resolution,
                seed=self.suite.seed,
                warm_start=parent,
                poison=self._poisoning(variant),
            )
        return self.training[variant]

    def _poisoning(self, variant: Variant) -> Poisoning | None:
        """Crafting that needs a network uses the suite's first model, trained on the clean data."""
        if variant.poison is None or variant.rate is None:
            return None
        plugin = self.suite.poisons[variant.poison].plugin
        proxy = self._train(Variant(next(iter(self.suite.models)))) if plugin.NEEDS_MODEL else None
        return Poisoning(variant.poison, plugin, variant.rate, data=self.data, seed=self.suite.seed, proxy=proxy)


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
