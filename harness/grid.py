"""From a suite to the cells of its grid: every row that the results will have, with the reason where one can't run."""

from dataclasses import dataclass

from harness.records import Cell
from harness.suite import Suite
from harness.threat import ThreatModel


@dataclass(frozen=True)
class GridCell:
    """One cell, the threat model it is attacked under, and why it can't run, if it can't."""

    cell: Cell
    threat_model: ThreatModel | None = None
    skip: str | None = None


def cells_of(suite: Suite) -> tuple[GridCell, ...]:
    """Returns the grid: for each model its clean row, then every attack at every budget, rising."""
    rows: list[GridCell] = []
    for model in suite.models:
        rows.append(GridCell(_clean_cell(suite, model)))
        for attack in suite.attacks:
            rows.extend(_attack_cell(suite, model, attack, threat) for threat in suite.threat_models(attack))
    return tuple(rows)


def _clean_cell(suite: Suite, model: str) -> Cell:
    return Cell(
        dataset=suite.dataset.name,
        model=model,
        arch=suite.architecture_of(model).arch,
        recipe=suite.models[model].recipe.name,
        seed=suite.seed,
    )


def _attack_cell(suite: Suite, model: str, attack: str, threat_model: ThreatModel) -> GridCell:
    plugin = suite.attacks[attack].plugin
    cell = _clean_cell(suite, model).model_copy(
        update={
            "condition": "attack",
            "attack": attack,
            "norm": threat_model.norm.value,
            "eps": threat_model.eps,
            "alpha": plugin.step_size(threat_model),
            "steps": getattr(plugin, "steps", None),
            "restarts": plugin.restarts,
            "protocol": suite.protocol_of(attack),
        }
    )
    return GridCell(cell, threat_model, plugin.supports(threat_model))
