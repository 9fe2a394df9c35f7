"""The cells of a suite's grid: every row that the results will have, with the reason where one cannot run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.attacks.base import Attack
from harness.conditions import ATTACK
from harness.datasets.image_folder import FileSplit
from harness.evaluation.parts import size_of_part
from harness.evaluation.settings import SweepSettings
from harness.records import CUMULATIVE, Cell, Protocol
from harness.steps.base import Examples
from harness.steps.conditions import Corrupted, FromFolder, Targeted, Trigger
from harness.steps.evaluate import Evaluate, Sweep
from harness.steps.judgement import Judgement
from harness.steps.parts import DivisibleT, in_parts
from harness.steps.poison import TrainedModel
from harness.suites.models import GIVEN
from harness.threat import ThreatModel

if TYPE_CHECKING:
    from harness.suites.base import BaseSuite, Variant


@dataclass(frozen=True)
class GridInputs:
    """What a step of the grid needs beside the suite and the model."""

    examples: Examples
    """The examples that are judged."""
    folders: Mapping[str, FileSplit]
    """Label -> images of a user's folder."""
    control: Callable[[Variant], TrainedModel]
    """Returns the training of a model's clean control: the same model on clean data with the same seed."""
    count: int
    """Number of the examples that are judged."""
    classes: int
    """Number of the classes."""


StepMaker = Callable[[TrainedModel, GridInputs], Judgement]
"""Returns the step that judges a training under one condition."""


@dataclass(frozen=True)
class GridCell:
    """One cell, its model, the step that judges it, and the reason where that cannot run."""

    cell: Cell
    variant: Variant
    step: StepMaker
    """Returns the step that judges a training under this cell's condition; cells of one step have the same."""
    position: int = 0
    """The cell's place among the conditions of that step."""
    skip: str | None = None


class _Budget(NamedTuple):
    """One budget of an attack, which is the same for every model."""

    fields: Mapping[str, Any]
    """What a row has where the clean one has something else."""
    step: StepMaker
    position: int
    skip: str | None


def cells_of(suite: BaseSuite) -> tuple[GridCell, ...]:
    """Returns the grid, model by model: clean, the poison's trigger or targets, attacks at every budget, corruptions, folders.

    Every repetition of a poison has its clean row and its success; only the first has attacks, corruptions and folders.
    """
    budgets = {label: tuple(_budgets_of(suite, label)) for label in suite.attacks}
    return tuple(row for variant in suite.variants() for row in _rows_of(suite, variant, budgets))


def attack_cell(
    clean: Cell, label: str, attack: Attack, threat_model: ThreatModel, *, protocol: Protocol, target_class: str | None = None
) -> Cell:
    """Returns the row of a model under one attack at one budget.

    Args:
        clean: The model's clean row.
        label: The attack's label.
        attack: The attack.
        threat_model: Norm and budget.
        protocol: How the budgets of the sweep relate.
        target_class: The class that the attack aims at, where the threat model is targeted.
    """
    return clean.model_copy(update=_attack_fields(label, attack, threat_model, protocol, target_class))


def _attack_fields(
    label: str, attack: Attack, threat_model: ThreatModel, protocol: Protocol, target_class: str | None
) -> dict[str, Any]:
    """Returns what the row of an attack has where the clean one has something else; for the arguments see `attack_cell`."""
    aim = {"targeted": True, "target_class": target_class} if threat_model.targeted else {}
    return {
        "condition": ATTACK,
        "attack": label,
        "norm": threat_model.norm.value,
        "eps": threat_model.eps,
        "alpha": attack.step_size(threat_model),
        "steps": getattr(attack, "steps", None),
        "restarts": attack.restarts,
        "protocol": protocol,
        **aim,
    }


def sweep_of(suite: BaseSuite, label: str, budgets: tuple[ThreatModel, ...], model: TrainedModel, inputs: GridInputs) -> Sweep:
    """Returns the step that attacks a model at some budgets of the attack of a label, in parts where the suite wants that."""
    entry = suite.attacks[label]
    settings = SweepSettings(
        entry.plugin,
        budgets,
        protocol=suite.protocol_of(label),
        best_of_iterates=suite.evaluation.best_of_iterates,
        seed=suite.seed,
        inference=suite.evaluation.inference,
    )
    by_example = suite.evaluation.shard is not None and settings.can_be_by_example()
    settings = replace(settings, by_example=by_example)
    sweep = Sweep(model, inputs.examples, label, settings, target_class=entry.target_class)
    return _cut(suite, sweep, inputs.count, inputs) if by_example else sweep


def clean_of(suite: BaseSuite, model: TrainedModel, inputs: GridInputs) -> Evaluate:
    """Returns the step that scores a model on the clean examples, in parts where the suite wants that."""
    clean = Evaluate(model, inputs.examples, by_example=suite.evaluation.shard is not None)
    return _cut(suite, clean, inputs.count, inputs)


def _cut(suite: BaseSuite, step: DivisibleT, count: int, inputs: GridInputs) -> DivisibleT:
    """Returns a step of so many examples cut into parts as the suite wants it."""
    shard, batch = suite.evaluation.shard, suite.evaluation.batch_size
    if shard is None:
        return step
    return in_parts(step, count=count, size=size_of_part(step.cost(inputs.classes), batch) if shard == "auto" else shard)


def _rows_of(suite: BaseSuite, variant: Variant, budgets: Mapping[str, Sequence[_Budget]]) -> Iterator[GridCell]:
    clean = _clean_cell(suite, variant)
    yield GridCell(clean, variant, partial(clean_of, suite))
    yield from _poison_rows(suite, clean, variant)
    if not variant.repetition:
        yield from _attack_rows(suite, clean, variant, budgets)
        yield from _corruption_rows(suite, clean, variant)
        yield from _folder_rows(suite, clean, variant)


def _budgets_of(suite: BaseSuite, label: str) -> Iterator[_Budget]:
    """Yields the budgets of an attack; a nested or bisected sweep is one step, independent budgets are a step each."""
    entry, protocol = suite.attacks[label], suite.protocol_of(label)
    skips = {threat: entry.plugin.supports(threat) for threat in suite.threat_models(label)}
    able = tuple(threat for threat, skip in skips.items() if skip is None)
    whole: StepMaker = partial(sweep_of, suite, label, able)
    for threat, skip in skips.items():
        fields = _attack_fields(label, entry.plugin, threat, protocol, entry.target_class)
        if protocol in CUMULATIVE:
            yield _Budget(fields, whole, able.index(threat) if skip is None else 0, skip)
        else:
            yield _Budget(fields, partial(sweep_of, suite, label, (threat,)), 0, skip)


def _attack_rows(suite: BaseSuite, clean: Cell, variant: Variant, budgets: Mapping[str, Sequence[_Budget]]) -> Iterator[GridCell]:
    for label, of_attack in budgets.items():
        if suite.attacks_model(label, variant.model):
            for budget in of_attack:
                yield GridCell(clean.model_copy(update=budget.fields), variant, budget.step, budget.position, budget.skip)


def _corruption_rows(suite: BaseSuite, clean: Cell, variant: Variant) -> Iterator[GridCell]:
    for label, corruption in suite.corruptions.items():
        for position, severity in enumerate(corruption.severities):
            update = {"condition": "corruption", "corruption": label, "corruption_group": corruption.GROUP, "severity": severity}
            cell, skip = clean.model_copy(update=update), corruption.supports(severity)
            yield GridCell(cell, variant, partial(_corrupted, suite, label), position, skip)


def _corrupted(suite: BaseSuite, label: str, model: TrainedModel, inputs: GridInputs) -> Corrupted:
    by_example = suite.evaluation.shard is not None
    corrupted = Corrupted(model, inputs.examples, label, suite.corruptions[label], suite.seed, by_example=by_example)
    return _cut(suite, corrupted, inputs.count, inputs)


def _folder_rows(suite: BaseSuite, clean: Cell, variant: Variant) -> Iterator[GridCell]:
    for label in suite.folders:
        cell = clean.model_copy(update={"condition": "folder", "attack": label})
        yield GridCell(cell, variant, partial(_photographed, suite, label))


def _photographed(suite: BaseSuite, label: str, model: TrainedModel, inputs: GridInputs) -> FromFolder:
    images = inputs.folders[label]
    photographed = FromFolder(model, label, images, by_example=suite.evaluation.shard is not None)
    return _cut(suite, photographed, len(images), inputs)


def _poison_rows(suite: BaseSuite, clean: Cell, variant: Variant) -> Iterator[GridCell]:
    if variant.poison is None:
        return
    steps: dict[str, StepMaker] = {"trigger": _triggered, "target": partial(_targeted, variant)}
    for condition in suite.poisons[variant.poison].plugin.conditions:
        yield GridCell(clean.model_copy(update={"condition": condition}), variant, steps[condition])


def _triggered(model: TrainedModel, inputs: GridInputs) -> Trigger:
    return Trigger(model, model.poisoning.label, model.poisoning.poison)


def _targeted(variant: Variant, model: TrainedModel, inputs: GridInputs) -> Targeted:
    return Targeted(model, inputs.control(variant), model.poisoning)


def _clean_cell(suite: BaseSuite, variant: Variant) -> Cell:
    poison = None if variant.poison is None else suite.poisons[variant.poison].plugin
    recipe = suite.models[variant.model].recipe
    return Cell(
        dataset=suite.dataset.name,
        model=variant.model,
        arch=suite.architecture_of(variant.model).arch,
        recipe=GIVEN if recipe is None else recipe.name,
        poison=variant.poison,
        poison_rate=variant.rate,
        target_class=getattr(poison, "target_class", None),
        seed=suite.seed_of(variant),
    )
