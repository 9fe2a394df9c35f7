"""The tables of poisons and of detectors: poisons.csv, detectors.csv and detectors_roc.csv."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from harness.conditions import CLEAN, OF_POISONED_MODELS, TRIGGER, names_where
from harness.metrics import share, wilson_interval
from harness.records import Cell, CellResult, DetectionResult, PoisonedSet, RunRecord
from harness.reports.names import MODEL_COLUMNS, cell_fields, with_column_types
from harness.reports.tables.scores import ScoredCell, scored

POISON_COLUMNS = (
    *(*MODEL_COLUMNS, "target_class", "training_examples", "poisoned", "realised_rate", "largest_change", "changed_pixels"),
    *("trigger_sha256", "clean_accuracy", "clean_accuracy_drop", "triggered_accuracy", "targets", "targets_hit", "eligible"),
    *("attack_success_rate", "attack_success_rate_low", "attack_success_rate_high"),
    *("status", "reason", "manifest", "manifest_digest"),
)
"""Columns of poisons.csv, in order."""
DETECTION = ("examples", "poisoned", "suspected", "threshold", "auc", "precision", "recall", "false_alarm_rate")
DETECTOR_COLUMNS = (
    *(*MODEL_COLUMNS, "target_class", "detector", "images", *DETECTION, "control_false_alarm_rate"),
    *("clean_accuracy_before", "clean_accuracy_after", "attack_success_rate_before", "attack_success_rate_after"),
    *("status", "reason", "digest"),
)
"""Columns of detectors.csv, in order."""
ROC_COLUMNS = (*MODEL_COLUMNS, "detector", "false_positive_rate", "true_positive_rate")
"""Columns of detectors_roc.csv, in order."""


class Judged(NamedTuple):
    """The rows of one poisoned model that measure its poison."""

    clean: ScoredCell | None
    success: ScoredCell | None
    """On triggered images, or on those aimed at."""


def poison_tables(record: RunRecord, found: Iterable[tuple[CellResult, ScoredCell | None]]) -> dict[str, pd.DataFrame]:
    """Returns file name -> table, without rows where nothing was poisoned or detected.

    Args:
        record: The results of the run.
        found: Its cells with their scores.
    """
    found = list(found)
    scores = [(result.cell, cell) for result, cell in found]
    detectors = [_detector_row(result, scores, record.class_names) for result in record.detections]
    roc = [row for result in record.detections for row in _roc_rows(result)]
    return {
        "poisons": poisons_table(record, found),
        "detectors": _table(detectors, DETECTOR_COLUMNS),
        "detectors_roc": _table(roc, ROC_COLUMNS),
    }


def poisons_table(record: RunRecord, found: Iterable[tuple[CellResult, ScoredCell | None]]) -> pd.DataFrame:
    """Returns one row for each poisoned model, see `poison_tables`."""
    scores = [(result.cell, cell) for result, cell in found]
    controls = [(result.cell, scored(result, record.class_names)) for result in record.controls]
    rows = [_poison_row(result, scores, controls, record.poisoned) for result in record.cells if _is_poisoned_clean(result.cell)]
    return _table(rows, POISON_COLUMNS)


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    return with_column_types(pd.DataFrame(rows, columns=list(columns)))


def _is_poisoned_clean(cell: Cell) -> bool:
    return cell.poison is not None and cell.condition == CLEAN


def _judged(cell: Cell, scores: Iterable[tuple[Cell, ScoredCell | None]]) -> Judged:
    """Returns the rows of a poisoned model, found by its clean row."""
    of_model = {
        other.condition: score
        for other, score in scores
        if other.condition in OF_POISONED_MODELS and other.model_copy(update={"condition": CLEAN}) == cell
    }
    aimed = (of_model.get(name) for name in names_where(lambda kind: kind.aims_at_target))
    return Judged(of_model.get(CLEAN), next((score for score in aimed if score is not None), None))


def _identity(cell: Cell) -> dict[str, Any]:
    fields = cell_fields(cell)
    return {name: fields[name] for name in (*MODEL_COLUMNS, "target_class")}


def _poison_row(
    result: CellResult,
    scores: list[tuple[Cell, ScoredCell | None]],
    controls: list[tuple[Cell, ScoredCell | None]],
    poisoned: tuple[PoisonedSet, ...],
) -> dict[str, Any]:
    cell, judged = result.cell, _judged(result.cell, scores)
    facts = next((facts for facts in poisoned if facts.cell == cell), None)
    control = next((score for other, score in (*scores, *controls) if _is_control(other, cell)), None)
    clean, clean_of_control = _accuracy(judged.clean), _accuracy(control)
    return {
        **_identity(cell),
        **({} if facts is None else _facts(facts)),
        "clean_accuracy": clean,
        "clean_accuracy_drop": None if clean is None or clean_of_control is None else clean_of_control - clean,
        **({} if judged.success is None else _success(judged.success, facts)),
        "status": result.status,
        "reason": " ".join(result.reason.split()),
    }


def _is_control(other: Cell, cell: Cell) -> bool:
    """Returns whether a row is that of the clean control: the same model trained on clean data with the same seed."""
    return (other.model, other.seed, other.poison, other.condition) == (cell.model, cell.seed, None, CLEAN)


def _accuracy(cell: ScoredCell | None) -> float | None:
    return None if cell is None else share(cell.after.correct)


def _facts(facts: PoisonedSet) -> dict[str, Any]:
    names = ("training_examples", "poisoned", "largest_change", "changed_pixels", "trigger_sha256", "targets", "manifest")
    return {
        **{name: getattr(facts, name) for name in names},
        "realised_rate": facts.poisoned / facts.training_examples,
        "manifest_digest": facts.digest,
    }


def _success(cell: ScoredCell, facts: PoisonedSet | None = None) -> dict[str, Any]:
    """Returns the success on triggered images, or on those aimed at that the clean control classifies correctly."""
    if cell.succeeded is None:
        return {}
    successes, eligible = int((cell.succeeded & cell.eligible).sum()), int(cell.eligible.sum())
    low, high = wilson_interval(successes, eligible)
    triggered = cell.result.cell.condition == TRIGGER
    return {
        "triggered_accuracy": share(cell.after.correct) if triggered else None,
        "targets_hit": None if facts is None or facts.targets is None else successes,
        "eligible": eligible,
        "attack_success_rate": share(cell.succeeded[cell.eligible]),
        "attack_success_rate_low": low,
        "attack_success_rate_high": high,
    }


def _detector_row(
    result: DetectionResult, scores: list[tuple[Cell, ScoredCell | None]], class_names: tuple[str, ...]
) -> dict[str, Any]:
    before = _judged(result.cell, scores)
    after = _judged(result.cell, [(cell.cell, scored(cell, class_names)) for cell in result.after])
    score: Mapping[str, Any] = result.score or {}
    return {
        **_identity(result.cell),
        "detector": result.detector,
        "images": result.images,
        **{name: score.get(name) for name in DETECTION},
        "control_false_alarm_rate": (result.control or {}).get("false_alarm_rate"),
        "clean_accuracy_before": _accuracy(before.clean),
        "clean_accuracy_after": _accuracy(after.clean),
        "attack_success_rate_before": _success_rate(before.success),
        "attack_success_rate_after": _success_rate(after.success),
        "status": result.status,
        "reason": " ".join(result.reason.split()),
        "digest": result.digest,
    }


def _success_rate(cell: ScoredCell | None) -> float | None:
    return None if cell is None else _success(cell).get("attack_success_rate")


def _roc_rows(result: DetectionResult) -> list[dict[str, Any]]:
    identity = {**_identity(result.cell), "detector": result.detector}
    points = (result.score or {}).get("roc", ())
    return [{**identity, "false_positive_rate": false, "true_positive_rate": true} for false, true in points]
