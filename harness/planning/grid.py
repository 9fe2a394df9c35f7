"""From a suite to the cells of its grid: every row that the results will have, with the reason where one can't run."""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.attacks.base import Attack
from harness.evaluation.sweep import Protocol
from harness.records import Cell
from harness.suites.suite import Suite, Variant
from harness.threat import ThreatModel


@dataclass(frozen=True)
class GridCell:
    """One cell, the model that it judges, the threat model it is attacked under, and why it can't run, if it can't."""

    cell: Cell
    variant: Variant
    threat_model: ThreatModel | None = None
    skip: str | None = None


def cells_of(suite: Suite) -> tuple[GridCell, ...]:
    """Returns the grid, model by model: clean, the poison's trigger or targets, attacks at every budget, corruptions, folders.

    Repetitions of a poison tell how sure its success is; attacks, corruptions and folders are for the first.
    """
    return tuple(row for variant in suite.variants() for row in _rows_of(suite, variant))


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
    aim = {"targeted": True, "target_class": target_class} if threat_model.targeted else {}
    return clean.model_copy(
        update={
            "condition": "attack",
            "attack": label,
            "norm": threat_model.norm.value,
            "eps": threat_model.eps,
            "alpha": attack.step_size(threat_model),
            "steps": getattr(attack, "steps", None),
            "restarts": attack.restarts,
            "protocol": protocol,
            **aim,
        }
    )


def _rows_of(suite: Suite, variant: Variant) -> Iterator[GridCell]:
    clean = _clean_cell(suite, variant)
    yield GridCell(clean, variant)
    yield from _poison_rows(suite, clean, variant)
    if not variant.repetition:
        yield from _condition_rows(suite, clean, variant)


def _condition_rows(suite: Suite, clean: Cell, variant: Variant) -> Iterator[GridCell]:
    for label, entry in suite.attacks.items():
        for threat in suite.threat_models(label) if suite.attacks_model(label, variant.model) else ():
            protocol, target = suite.protocol_of(label), entry.target_class
            cell = attack_cell(clean, label, entry.plugin, threat, protocol=protocol, target_class=target)
            yield GridCell(cell, variant, threat, entry.plugin.supports(threat))
    for label, corruption in suite.corruptions.items():
        for severity in corruption.severities:
            update = {"condition": "corruption", "corruption": label, "corruption_group": corruption.GROUP, "severity": severity}
            yield GridCell(clean.model_copy(update=update), variant, skip=corruption.supports(severity))
    for label in suite.folders:
        yield GridCell(clean.model_copy(update={"condition": "folder", "attack": label}), variant)


def _poison_rows(suite: Suite, clean: Cell, variant: Variant) -> Iterator[GridCell]:
    if variant.poison is None:
        return
    plugin = suite.poisons[variant.poison].plugin
    if plugin.HAS_TRIGGER:
        yield GridCell(clean.model_copy(update={"condition": "trigger"}), variant)
    if plugin.is_targeted:
        yield GridCell(clean.model_copy(update={"condition": "target"}), variant)


def _clean_cell(suite: Suite, variant: Variant) -> Cell:
    poison = None if variant.poison is None else suite.poisons[variant.poison].plugin
    return Cell(
        dataset=suite.dataset.name,
        model=variant.model,
        arch=suite.architecture_of(variant.model).arch,
        recipe=suite.models[variant.model].recipe.name,
        poison=variant.poison,
        poison_rate=variant.rate,
        target_class=getattr(poison, "target_class", None),
        seed=suite.seed_of(variant),
    )
