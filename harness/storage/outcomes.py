"""An outcome as a file: its arrays as tensors, its numbers as canonical JSON beside them."""

import json
import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from harness.records import SCHEMA_VERSION, ConditionResult, Outcome
from harness.spec import canonical_json

SCALARS = ("max_violation", "forwards", "backwards", "seconds", "peak_memory_mb", "findings")
"""Fields of a `ConditionResult` that stand in the JSON, beside its budget."""


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
        tensors[f"{number}.fooled"] = condition.fooled.astype(np.uint8)
        tensors[f"{number}.distance"] = condition.distance.astype(np.float32)
        rows.append(_scalars(condition))
    metadata = {"schema_version": str(SCHEMA_VERSION), "conditions": canonical_json(rows)}
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, metadata=metadata)


def load_outcome(path: Path) -> Outcome:
    """Reads what `save_outcome` wrote."""
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
    findings = {name: value if math.isfinite(value) else sys.float_info.max for name, value in condition.findings.items()}
    return {**row, "findings": findings, "eps": None if condition.eps is None else str(condition.eps)}


def _condition_of(file: safe_open, number: int, row: dict[str, Any]) -> ConditionResult:
    eps = row.pop("eps")
    return ConditionResult(
        eps=None if eps is None else Fraction(eps),
        logits=file.get_tensor(f"{number}.logits"),
        fooled=file.get_tensor(f"{number}.fooled").astype(bool),
        distance=file.get_tensor(f"{number}.distance"),
        **row,
    )
