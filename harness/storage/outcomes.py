"""An outcome as a file: its arrays as tensors, its numbers as canonical JSON beside them."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from harness.records import ConditionResult, Outcome
from harness.records.evidence import AuditEvidence, Evidence, NetworkEvidence, StageEvidence
from harness.spec import canonical_json
from harness.storage.old_outcomes import evidence_of_findings

OUTCOME_VERSION = 2
"""Of the file: since 2 with typed evidence in place of numbers by name."""
SCALARS = ("max_violation", "forwards", "backwards", "seconds", "peak_memory_mb")
"""Fields of a `ConditionResult` that lie in the JSON as they are, beside its budget and evidence."""
PASSES = ("forwards", "backwards")
"""Counts of the evidence that the condition has itself."""


def save_outcome(outcome: Outcome, path: Path) -> None:
    """Writes an outcome as one safetensors file."""
    tensors: dict[str, NDArray[np.generic]] = {
        "labels": outcome.labels,
        "clean_logits": outcome.clean_logits.astype(np.float32),
        "smallest_eps": outcome.smallest_eps.astype(np.float32),
    }
    rows = []
    for number, condition in enumerate(outcome.conditions):
        tensors[f"{number}.logits"] = condition.logits.astype(np.float32)
        tensors[f"{number}.fooled"] = condition.is_adversarial.astype(np.uint8)
        tensors[f"{number}.distance"] = condition.distance.astype(np.float32)
        rows.append(_scalars(condition))
    metadata = {"schema_version": str(OUTCOME_VERSION), "conditions": canonical_json(rows)}
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, metadata=metadata)


def load_outcome(path: Path) -> Outcome:
    """Reads what `save_outcome` wrote, in this version or an older one."""
    with safe_open(path, framework="numpy") as file:
        rows = json.loads(file.metadata()["conditions"])
        conditions = tuple(_condition_of(file, number, row) for number, row in enumerate(rows))
        return Outcome(
            labels=file.get_tensor("labels"),
            clean_logits=file.get_tensor("clean_logits"),
            conditions=conditions,
            smallest_eps=file.get_tensor("smallest_eps"),
        )


def _scalars(condition: ConditionResult) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(condition, name) for name in SCALARS}
    eps = None if condition.eps is None else str(condition.eps)
    return {**row, "eps": eps, "evidence": _changed(condition.evidence, Evidence())}


def _changed(evidence: Evidence | NetworkEvidence, usual: Evidence | NetworkEvidence) -> dict[str, object]:
    """Returns the fields that differ from the usual ones, but for the passes, which lie beside the evidence."""
    found = {it.name: (getattr(evidence, it.name), getattr(usual, it.name)) for it in fields(evidence) if it.name not in PASSES}
    return {name: _plain(value, default) for name, (value, default) in found.items() if value != default}


def _plain(value: object, usual: object) -> object:
    if isinstance(value, NetworkEvidence) and isinstance(usual, NetworkEvidence):
        return _changed(value, usual)
    if isinstance(value, AuditEvidence):
        return asdict(value)
    if isinstance(value, Mapping):
        return [{"name": name, **asdict(stage)} for name, stage in value.items()]  # a list keeps their order
    return sys.float_info.max if isinstance(value, float) and not math.isfinite(value) else value


def _condition_of(file: safe_open, number: int, row: dict[str, Any]) -> ConditionResult:
    eps, passes = row.pop("eps"), {name: row[name] for name in PASSES}
    evidence = evidence_of_findings(row.pop("findings")) if "findings" in row else _evidence_of(row.pop("evidence"))
    return ConditionResult(
        eps=None if eps is None else Fraction(eps),
        logits=file.get_tensor(f"{number}.logits"),
        is_adversarial=file.get_tensor(f"{number}.fooled").astype(bool),
        distance=file.get_tensor(f"{number}.distance"),
        evidence=replace(evidence, **passes),
        **row,
    )


def _evidence_of(known: dict[str, Any]) -> Evidence:
    """Returns the evidence of its plain fields."""
    parts: dict[str, Any] = {
        "network": NetworkEvidence(**known.get("network", {})),
        "stages": _stages_of(known.get("stages", [])),
    }
    if audit := known.get("audit"):
        parts["audit"] = AuditEvidence(**{**audit, "escalated": tuple(audit["escalated"])})
    return Evidence(**{**known, **parts})


def _stages_of(known: list[dict[str, Any]] | dict[str, int]) -> dict[str, StageEvidence]:
    """Returns the stages in order; where they are numbers, these tell how many examples each made adversarial."""
    if isinstance(known, dict):
        return {name: StageEvidence(adversarial=count) for name, count in known.items()}
    return {stage.pop("name"): StageEvidence(**stage) for stage in known}
