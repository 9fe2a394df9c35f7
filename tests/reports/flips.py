"""Models whose right and wrong examples are chosen one by one, for what compares models on the same examples."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.records import CellResult
from tests.reports.planted import N, attack_results, clean_result, digest_of, logits_of, predicted_with_errors

SETTINGS = {"fgsm": {"plugin": {"name": "fgsm"}}, "pgd": {"plugin": {"name": "pgd", "steps": 10}}}


def model(name: str, wrong: int, robust: int, attacks: tuple[str, ...] = ("pgd",), **fields: Any) -> list[CellResult]:
    """A model that is wrong on the first `wrong` examples, and under every attack right on the last `robust` ones only."""
    cells = []
    for cell in (clean_result("baseline"), *(it for attack in attacks for it in attack_results("baseline", attack))):
        if cell.condition is None:
            raise AssertionError
        attacked = cell.cell.condition == "attack"
        adversarial = attacked & (np.arange(N) >= wrong) & (np.arange(N) < N - robust)
        errors = sorted({*range(wrong), *np.flatnonzero(adversarial)})
        clean = logits_of(predicted_with_errors(range(wrong)))
        condition = dataclasses.replace(
            cell.condition, logits=logits_of(predicted_with_errors(errors)), is_adversarial=adversarial
        )
        cells.append(
            dataclasses.replace(
                cell,
                cell=cell.cell.model_copy(update={"model": name, **fields}),
                digest=digest_of(name, cell.digest, *fields.values()),
                clean_logits=clean,
                condition=condition,
            )
        )
    return cells


def suite(name: str = "s", attacks: Mapping[str, Any] = SETTINGS, **fields: Any) -> dict[str, Any]:
    return {"name": name, "title": "", "description": "", "attacks": attacks, **fields}


def reversed_cell(cell: CellResult) -> CellResult:
    assert cell.condition is not None
    assert cell.labels is not None
    assert cell.clean_logits is not None
    assert cell.smallest_eps is not None
    arrays = {name: getattr(cell.condition, name)[::-1].copy() for name in ("logits", "is_adversarial", "distance")}
    return dataclasses.replace(
        cell,
        labels=cell.labels[::-1].copy(),
        clean_logits=cell.clean_logits[::-1].copy(),
        smallest_eps=cell.smallest_eps[::-1].copy(),
        condition=dataclasses.replace(cell.condition, **arrays),
    )
