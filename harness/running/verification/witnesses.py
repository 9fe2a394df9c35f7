"""What is known of a cell beside its row: its stored outcome, else its examples, else its confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.records import FINISHED, Cell, CellResult, ConditionResult, Status, Verdict
from harness.records.evidence import AuditEvidence, Evidence
from harness.reports.load import Results
from harness.reports.names import cell_fields, is_missing, unique_cell_names
from harness.system.messages import shown

if TYPE_CHECKING:
    from harness.running.verification.identities import Identities
    from harness.running.verification.stored import StoredSteps

Source = Literal["store", "samples", "confusion", "nothing"]
MATRICES = "confusion"
"""Folder of the confusion matrices."""
COUNTS = ("forwards", "backwards", "seconds", "peak_memory_mb", "max_violation")
"""Numbers of a row that only its stored outcome has."""


@dataclass(frozen=True)
class Witnessed:
    """A row of cells.csv as its witnesses have it."""

    row: Mapping[Any, Any]
    """The row as it lies in the folder."""
    result: CellResult
    source: Source


def witnessed(results: Results, identities: Identities, stored: StoredSteps | None) -> list[Witnessed]:
    """Returns every row of cells.csv as its best witness has it, in the rows' order; verdicts are those of the rows.

    Raises:
        HarnessError: if a table cannot be read.
    """
    finished = [row for row in identities.rows if row["status"] in FINISHED]
    names = unique_cell_names([{**row, "digest": identities.digest(row)} for row in finished])
    return [_of_row(row, results, identities, stored, names=names) for row in identities.rows]


def _of_row(
    row: Mapping[Any, Any], results: Results, identities: Identities, stored: StoredSteps | None, *, names: Mapping[str, str]
) -> Witnessed:
    cell, digest = identities.cell(row), identities.digest(row)
    samples = results.samples_of(digest) if results.has_samples else pd.DataFrame()
    found = None if stored is None else stored.find(cell, digest)
    status = _status(row)
    own = _named(samples)
    if found is not None:
        outcome = found.outcome
        result = CellResult(
            cell,
            digest,
            status if status in FINISHED else Status.DONE,
            labels=outcome.labels,
            clean_logits=outcome.clean_logits,
            condition=outcome.conditions[found.position],
            smallest_eps=outcome.smallest_eps,
            **_with_verdict(row),
            **(own if len(samples) == len(outcome.labels) else _placeholders(len(outcome.labels))),
        )
        return Witnessed(row, result, "store")
    if len(samples):
        classes = len(results.provenance["class_names"])
        return Witnessed(row, _of_samples(row, cell, digest, samples, classes=classes, names=own), "samples")
    lost = CellResult(cell, digest, status, _text(row["reason"]), **_with_verdict(row))
    if digest in names and (results.folder / MATRICES / f"{names[digest]}.csv").is_file():
        matrix = results.matrix(MATRICES, names[digest]).drop(columns="true_class").to_numpy()
        if matrix.shape == (len(results.provenance["class_names"]),) * 2:
            return Witnessed(row, _of_matrix(lost, matrix), "confusion")
    return Witnessed(row, lost, "nothing")


def _status(row: Mapping[Any, Any]) -> Status:
    if row["status"] not in list(Status):
        raise HarnessError(f"cells.csv: status: expected one of {', '.join(Status)}, found {shown(row['status'])}")
    return Status(row["status"])


def _of_matrix(lost: CellResult, counts: NDArray[np.int64]) -> CellResult:
    """Returns a cell with as many examples of each class and prediction as a confusion matrix (K, K) counts."""
    pairs = np.indices(counts.shape).reshape(2, -1).repeat(counts.flatten(), axis=1)
    labels, logits = pairs[0], _one_hot(pairs[1], len(counts))
    nothing = np.zeros(len(labels), np.float32)
    condition = ConditionResult(lost.cell.eps, logits, nothing.astype(bool), nothing)
    return replace(
        lost, labels=labels, clean_logits=logits, condition=condition, smallest_eps=nothing, **_placeholders(len(labels))
    )


def cell_fields_of(result: CellResult) -> dict[str, Any]:
    """Returns what a file name is made of: the fields of a result's cell, and its digest."""
    return {**cell_fields(result.cell), "digest": result.digest}


def _of_samples(
    row: Mapping[Any, Any], cell: Cell, digest: str, samples: pd.DataFrame, *, classes: int, names: dict[str, Any]
) -> CellResult:
    """Returns a cell whose logits say no more than which class was predicted; what examples do not tell is taken from the row."""
    labels = samples["label"].to_numpy(np.int64)
    attacked = cell.kind.is_attack
    is_adversarial = samples["fooled"].to_numpy(bool) if attacked else np.zeros(len(labels), bool)
    robust = int((samples["clean_correct"].to_numpy(bool) & ~is_adversarial).sum())
    counts = {name: value for name in COUNTS if not is_missing(value := row[name])}
    condition = ConditionResult(
        eps=cell.eps,
        logits=_one_hot(samples["prediction"].to_numpy(np.int64), classes),
        is_adversarial=is_adversarial,
        distance=samples["distance"].to_numpy(np.float32),
        evidence=_evidence(row, robust) if attacked else Evidence(),
        **counts,
    )
    status = _status(row)
    return CellResult(
        cell,
        digest,
        status if status in FINISHED else Status.DONE,
        labels=labels,
        clean_logits=_one_hot(samples["clean_prediction"].to_numpy(np.int64), classes),
        condition=condition,
        smallest_eps=samples["smallest_eps"].to_numpy(np.float32),
        **_with_verdict(row),
        **names,
    )


def _evidence(row: Mapping[Any, Any], survivors: int) -> Evidence:
    """Returns the audit of a row, whose bound is taken over the survivors that the examples show."""
    conclusive = not is_missing(row["conclusive"]) and bool(row["conclusive"])
    if is_missing(row["audit_n"]):
        return Evidence(conclusive=conclusive)
    sampled = max(min(int(row["audit_n"]), survivors), min(1, survivors))
    return Evidence(conclusive=conclusive, audit=AuditEvidence(survivors, sampled, int(row["audit_broken"])))


def _one_hot(predicted: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Returns logits (N, K) with these predictions (N,)."""
    return (predicted[:, None] == np.arange(classes)).astype(np.float32)


def _named(samples: pd.DataFrame) -> dict[str, Any]:
    if samples.empty:
        return _placeholders(0)
    return {"example_ids": tuple(samples["example_id"].astype(str)), "example_hashes": tuple(samples["content_hash"].astype(str))}


def _placeholders(n: int) -> dict[str, Any]:
    names = tuple(str(number) for number in range(n))
    return {"example_ids": names, "example_hashes": names}


def _with_verdict(row: Mapping[Any, Any]) -> dict[str, Any]:
    verdict, reasons = row["verdict"], _text(row["verdict_reasons"])
    return {
        "verdict": None if is_missing(verdict) or verdict not in list(Verdict) else Verdict(verdict),
        "verdict_reasons": (reasons,) if reasons else (),
    }


def _text(value: Any) -> str:
    return "" if is_missing(value) else str(value)
