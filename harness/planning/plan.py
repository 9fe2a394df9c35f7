"""The steps that compute the cells of a grid: each once, after those that it depends on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.conditions import CLEAN, OF_POISONED_MODELS
from harness.datasets.image_folder import FileSplit
from harness.images import ImageData
from harness.planning.data_checks import given_step, read_folders, unsupported_poisons, warn_of_training_images
from harness.planning.grid import GridCell, GridInputs, StepMaker, cells_of, clean_of, sweep_of
from harness.poisoning.detectors.base import Detector
from harness.records import Cell
from harness.spec import digest_fields, digest_of
from harness.steps.base import DataIdentity, Examples, Step, in_order
from harness.steps.detect import Detect
from harness.steps.evaluate import Sweep
from harness.steps.given import Given
from harness.steps.judgement import Judgement
from harness.steps.kept import KeptImages
from harness.steps.parts import Divisible
from harness.steps.poison import Poisoning, TrainedModel
from harness.steps.train import Train
from harness.steps.transfer import Transfer
from harness.storage.store import Store
from harness.suites.base import BaseSuite, Variant
from harness.suites.models import ModelEntry
from harness.suites.requirement_checks import check_required_classes
from harness.threat import ThreatModel
from harness.training.recipes.base import Recipe


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the step that computes it, and its place among that step's conditions."""

    cell: Cell
    step: Judgement | None
    position: int = 0
    skip: str | None = None

    @property
    def digest(self) -> str:
        """A hash of the step's digest, which covers the corruption's group, and of the cell's other fields; unique."""
        return cell_digest(fields_in_digest(self.cell), None if self.step is None else self.step.digest)


def fields_in_digest(cell: Cell) -> dict[str, Any]:
    """Returns the fields of a cell that its digest covers beside its step's digest, in plain JSON values."""
    return digest_fields(cell, exclude={"corruption_group"})


def cell_digest(fields: Mapping[str, Any], step: str | None) -> str:
    """Returns the digest of a cell of these fields, see `fields_in_digest`, that a step of this digest computes."""
    return digest_of({"step": step, "cell": dict(fields)})


@dataclass(frozen=True)
class PlannedDetection:
    """A detector on one poisoned training and on its clean control, and the rows of the model trained anew on what it left."""

    cell: Cell
    """The clean row of the poisoned model."""
    label: str
    """The detector's label."""
    detector: Detector
    step: Detect | None
    control: Detect | None = None
    after: tuple[PlannedCell, ...] = ()
    """The rows of the model trained anew: clean, and on the poison's trigger or targets."""
    skip: str | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that hold its numbers."""
        return tuple(step for step in (self.step, self.control, *(cell.step for cell in self.after)) if step is not None)


@dataclass(frozen=True)
class PlannedTransfer:
    """One attack on one model at one budget, whose images are scored on every model."""

    source: str
    attack: str
    threat_model: ThreatModel
    step: Transfer


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    suite: BaseSuite
    cells: tuple[PlannedCell, ...]
    training: dict[Variant, TrainedModel]
    """Every model of the grid -> the step that trains it, or looks at a finished one."""
    examples: Examples
    """Which examples are judged."""
    detections: tuple[PlannedDetection, ...] = ()
    """Every detector on every poisoned training that it looks at."""
    transfers: tuple[PlannedTransfer, ...] = ()
    """Every attack whose images go to other models, from every model."""
    kept: tuple[KeptImages, ...] = ()
    """The attacks whose images are kept."""
    controls: tuple[PlannedCell, ...] = ()
    """The clean rows of the clean controls of repetitions; no table of cells has them."""
    needless: frozenset[str] = frozenset()
    """Digests of steps that are not run, see `for_store`."""

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, after those it depends on."""
        of_cells = (cell.step for cell in (*self.cells, *self.controls) if cell.step is not None)
        of_detections = (step for detection in self.detections for step in detection.steps)
        found = in_order([*of_cells, *of_detections, *(transfer.step for transfer in self.transfers), *self.kept])
        return tuple(step for step in found if step.digest not in self.needless)

    def for_store(self, store: Store) -> Plan:
        """Returns the plan without the parts whose merged outcome is in a store."""
        merged = [step for step in self.steps if isinstance(step, Divisible) and step.parts and store.get(step.KIND, step.digest)]
        return replace(self, needless=frozenset(part.digest for step in merged for part in step.parts))


def plan_of(suite: BaseSuite, data: ImageData) -> Plan:
    """Returns the plan of a suite on its loaded data.

    Raises:
        SuiteError: if a poison does not fit the data: unknown class, too few examples for the rate, trigger too large; or an
            attack aims at an unknown class.
        DataError: if a folder of images is missing or empty, holds an unknown class, or a broken image.
        ModelError: if a network that is named does not exist, or its file of weights cannot be read.
    """
    suite.check_networks()
    suite.check_weights()
    for label, entry in suite.attacks.items():
        entry.check_target(data.class_names, where=f"attacks.{label}")
    check_required_classes(suite, data.class_names)
    planner = _Planner(suite, data, folders=read_folders(suite, data), unsupported=unsupported_poisons(suite, data))
    rows = cells_of(suite)
    cells = tuple(planner.planned(row) for row in rows)
    detections, transfers, controls = tuple(planner.detections(rows)), tuple(planner.transfers()), tuple(planner.controls(rows))
    warn_of_training_images(suite, data)
    kept = tuple(_kept(suite, rows, cells))
    of_grid, examples = planner.of_grid, planner.examples
    return Plan(suite, cells, of_grid, examples, detections=detections, transfers=transfers, kept=kept, controls=controls)


def _kept(suite: BaseSuite, rows: Iterable[GridCell], cells: Iterable[PlannedCell]) -> Iterator[KeptImages]:
    """Yields the steps that keep the images that the suite asks for, one for each sweep."""
    wanted, found = suite.keep, dict[tuple[str, str], list[tuple[PlannedCell, Sweep]]]()
    for row, cell in zip(rows, cells, strict=True):
        if wanted is None or not isinstance(cell.step, Sweep) or cell.cell.attack not in wanted.attacks:
            continue
        if wanted.eps is None or cell.cell.eps in wanted.eps:
            found.setdefault((row.variant.name, cell.step.digest), []).append((cell, cell.step))
    for (name, _), kept in found.items():
        budgets = tuple(cell.cell.eps for cell, _ in kept if cell.cell.eps is not None)
        yield KeptImages(kept[0][1], budgets, name, tuple(cell.digest for cell, _ in kept))


def _recipe_of(entry: ModelEntry) -> Recipe:
    """Returns the recipe of a model that is trained."""
    if entry.recipe is None:
        raise ValueError("expected a model with a recipe, got a finished one")
    return entry.recipe


class _Planner:
    """Turns cells into steps; every training is made once."""

    def __init__(
        self, suite: BaseSuite, data: ImageData, *, folders: dict[str, FileSplit], unsupported: dict[tuple[str, float], str]
    ) -> None:
        self.suite = suite
        self.unsupported = unsupported
        self.data = DataIdentity.of(suite.dataset, data)
        self.examples = Examples(suite.evaluation.split, suite.evaluation.limit, suite.seed)
        self.class_names = data.class_names
        self.judged = self.examples.of(data)
        self.training: dict[Variant, Train] = {}
        self.judgements: dict[tuple[Variant, str, StepMaker], Judgement] = {}
        self.given: dict[Variant, Given] = {}
        self.inputs = GridInputs(
            self.examples, folders, control=self._control, count=len(self.judged), classes=len(self.class_names)
        )

    @property
    def of_grid(self) -> dict[Variant, TrainedModel]:
        """The models of the grid, without the clean controls of repetitions."""
        own = {variant: step for variant, step in self.training.items() if variant.poison or not variant.repetition}
        return {**own, **self.given}

    def planned(self, row: GridCell) -> PlannedCell:
        """Returns a cell of the grid with its step."""
        if (skip := row.skip or self._reason(row.variant)) is not None:
            return PlannedCell(row.cell, None, skip=skip)
        return self._judged(row, self._model(row.variant))

    def _judged(self, row: GridCell, model: TrainedModel) -> PlannedCell:
        """Returns a cell of a model with its step, which is made once: a sweep fills a cell at each of its budgets."""
        key = (row.variant, model.digest, row.step)
        if key not in self.judgements:
            self.judgements[key] = row.step(model, self.inputs)
        return PlannedCell(row.cell, self.judgements[key], row.position)

    def transfers(self) -> Iterator[PlannedTransfer]:
        """Yields every attack whose images go to other models, from every model that it can attack."""
        models = {label: self._model(Variant(label)) for label in self.suite.models}
        for entry in self.suite.transfer:
            threat_model = next(threat for threat in self.suite.threat_models(entry.attack) if threat.eps == entry.eps)
            if self.suite.attacks[entry.attack].plugin.supports(threat_model) is None:
                for label, model in models.items():
                    step = Transfer(sweep_of(self.suite, entry.attack, (threat_model,), model, self.inputs), models)
                    yield PlannedTransfer(label, entry.attack, threat_model, step)

    def _model(self, variant: Variant) -> TrainedModel:
        """Returns the step of a model of the grid, planned once."""
        if not self.suite.models[variant.model].is_finished:
            return self._train(variant)
        if variant not in self.given:
            self.given[variant] = given_step(self.suite, variant.model, self.data, self.class_names, self.judged)
        return self.given[variant]

    def _train(self, variant: Variant) -> Train:
        """Returns the training of a model of the grid, planned once."""
        if variant not in self.training:
            self.training[variant] = self._training(variant)
        return self.training[variant]

    def _training(self, variant: Variant, filtered_by: Detect | None = None) -> Train:
        """Returns a training; a detector that filters its data also filters those of the model that it starts from."""
        entry = self.suite.models[variant.model]
        parent = None if entry.warm_start is None else variant._replace(model=entry.warm_start)
        start = None if parent is None else self._train(parent) if filtered_by is None else self._training(parent, filtered_by)
        return Train(
            label=variant.title if filtered_by is None else f"{variant.title}, filtered by {filtered_by.label}",
            architecture=self.suite.architecture_of(variant.model),
            recipe=_recipe_of(entry),
            data=self.data,
            resolution=self.suite.dataset.resolution,
            seed=self.suite.seed_of(variant),
            warm_start=start,
            poison=self._poisoning(variant),
            filtered_by=filtered_by,
            devices=self.suite.devices,
        )

    def _control(self, variant: Variant) -> Train:
        """Returns the same model trained on the clean data, with the same seed, so that the poison is all that differs."""
        return self._train(Variant(variant.model, repetition=variant.repetition))

    def controls(self, rows: Iterable[GridCell]) -> Iterator[PlannedCell]:
        """Yields the clean row of every repetition's clean control; those of first repetitions are in the grid."""
        compared = {(row.variant.model, row.variant.repetition): row for row in rows if self._reason(row.variant) is None}
        for (_, repetition), row in compared.items():
            if repetition:
                cell = row.cell.model_copy(update={"poison": None, "poison_rate": None, "target_class": None, "condition": CLEAN})
                yield PlannedCell(cell, clean_of(self.suite, self._control(row.variant), self.inputs))

    def _poisoning(self, variant: Variant) -> Poisoning | None:
        """Returns the step that poisons the data; crafting may use the first model that is trained, on clean data."""
        if variant.poison is None or variant.rate is None:
            return None
        plugin = self.suite.poisons[variant.poison].plugin
        proxy = self._train(Variant(self.suite.trained[0])) if plugin.NEEDS_MODEL else None
        seed = self.suite.seed_of(variant)
        return Poisoning(variant.poison, plugin, variant.rate, data=self.data, seed=seed, proxy=proxy)

    def _reason(self, variant: Variant) -> str | None:
        """Returns why a poison cannot be made, if it can't."""
        return self.unsupported.get((variant.poison or "", variant.rate or 0.0))

    def detections(self, rows: Iterable[GridCell]) -> Iterator[PlannedDetection]:
        """Yields every detector on every poisoned training that it looks at."""
        of_model: dict[Variant, list[GridCell]] = {}
        for row in rows:
            if row.variant.poison is not None and row.cell.condition in OF_POISONED_MODELS:
                of_model.setdefault(row.variant, []).append(row)
        for variant, own in of_model.items():
            for label in self.suite.detectors:
                if variant.model in self.suite.models_of(label):
                    yield self._detection(variant, label, own)

    def _detection(self, variant: Variant, label: str, rows: list[GridCell]) -> PlannedDetection:
        entry, poison = self.suite.detectors[label], self.suite.poisons[str(variant.poison)].plugin
        skip = self._reason(variant)
        if entry.plugin.RUN_TIME and not poison.HAS_TRIGGER:
            skip = skip or f"{entry.plugin.name} judges images as they come in, and {poison.name} changes none of them"
        if skip is not None:
            return PlannedDetection(rows[0].cell, label, entry.plugin, None, skip=skip)
        model, clean = self._train(variant), self._control(variant)
        step = Detect(model, model.poison, label, entry.plugin, self.suite.seed)
        control = Detect(clean, None, label, entry.plugin, self.suite.seed)
        after: tuple[PlannedCell, ...] = ()
        if self.suite.trains_anew(label, str(variant.poison)):
            retrained = self._training(variant, filtered_by=step)
            after = tuple(self._judged(row, retrained) for row in rows)
        return PlannedDetection(rows[0].cell, label, entry.plugin, step, control, after)
