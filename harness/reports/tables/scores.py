"""The scores of one cell: its rows of cells.csv, before_after.csv and per_class.csv."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import metrics
from harness.errors import HarnessError
from harness.metrics import ClassReport, Flags, Floats, Indices, RocCurve
from harness.records import CELL_COLUMNS, CellResult, ConditionResult, RunRecord
from harness.reports.names import cell_fields

SCORES = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "roc_auc_macro")
"""The scores of before_after.csv."""


@dataclass(frozen=True)
class Scores:
    """The scores of logits (N, K) against labels (N,)."""

    logits: Floats
    labels: Indices

    @cached_property
    def predicted(self) -> Indices:
        """Predicted classes (N,)."""
        return metrics.predictions(self.logits)

    @cached_property
    def correct(self) -> Flags:
        """(N,) whether the prediction is the label."""
        return self.predicted == self.labels

    @cached_property
    def confusion(self) -> Indices:
        """Confusion matrix (K, K)."""
        return metrics.confusion_matrix(self.predicted, self.labels, self.logits.shape[1])

    @cached_property
    def report(self) -> ClassReport:
        """Scores of each class."""
        return metrics.class_report(self.confusion)

    @cached_property
    def curves(self) -> tuple[RocCurve, ...]:
        """One-vs-rest ROC curves."""
        return metrics.roc_curves(self.logits, self.labels)

    @cached_property
    def summary(self) -> dict[str, float]:
        """The scores of the table, by name."""
        macro = metrics.macro_scores(self.report)
        values = (metrics.share(self.correct), *macro, metrics.roc_auc_macro(self.curves))
        return dict(zip(SCORES, values, strict=True))


@dataclass(frozen=True)
class ScoredCell:
    """A cell that has numbers, with its scores before (clean images) and after (the condition's images)."""

    result: CellResult
    condition: ConditionResult
    before: Scores
    after: Scores
    succeeded: Flags | None
    """(N,) whether the attack or the poison succeeded on the example; None where the cell is neither."""
    eligible: Flags
    """(N,) the examples on which a success counts: correct before and, where there is a target class, not of it."""

    @property
    def robust(self) -> Flags:
        """(N,) correct when clean and not adversarial; a targeted attack has no success on those of the target class."""
        return self.before.correct & ~self.condition.is_adversarial


def scored_cells(record: RunRecord) -> list[tuple[CellResult, ScoredCell | None]]:
    """Returns every cell of a run with its scores, or None where it has no numbers.

    The conditions of one step share one array of clean logits, so its scores are computed once.

    Raises:
        HarnessError: if the arrays of a cell do not fit each other, or its target class does not exist.
    """
    pairs: list[tuple[CellResult, ScoredCell | None]] = []
    clean: dict[int, Scores] = {}
    for result in record.cells:
        cell = scored(result, record.class_names, clean.get(id(result.clean_logits)))
        if cell is not None:
            clean[id(result.clean_logits)] = cell.before
        pairs.append((result, cell))
    return pairs


def scored(result: CellResult, class_names: tuple[str, ...], before: Scores | None = None) -> ScoredCell | None:
    """Returns a cell with its scores, or None where it has no numbers.

    Args:
        result: The cell.
        class_names: The K class names.
        before: The scores of its clean logits, where they are known.

    Raises:
        HarnessError: if the arrays of the cell do not fit each other, or its target class does not exist.
    """
    condition, labels, clean_logits = result.condition, result.labels, result.clean_logits
    if condition is None or labels is None or clean_logits is None:
        return None
    expected = (len(labels), len(class_names))
    for name, shape in (("logits", condition.logits.shape), ("clean_logits", clean_logits.shape)):
        if shape != expected:
            raise HarnessError(f"cell {result.digest[:12]}.{name}: expected the shape {expected}, got {shape}")
    before, after = before or Scores(clean_logits, labels), Scores(condition.logits, labels)
    succeeded, eligible = None, before.correct
    poisoned = result.cell.kind.aims_at_target
    if poisoned or result.cell.targeted:
        eligible = before.correct & (labels != _class_index(result, class_names))
    if result.cell.kind.is_attack:
        succeeded = condition.is_adversarial
    elif poisoned:
        succeeded = eligible & (after.predicted == _class_index(result, class_names))
    return ScoredCell(result, condition, before, after, succeeded, eligible)


def _class_index(result: CellResult, class_names: tuple[str, ...]) -> int:
    target = result.cell.target_class
    if target not in class_names:
        raise HarnessError(f"cell {result.digest[:12]}.target_class: expected one of {', '.join(class_names)}, got {target!r}")
    return class_names.index(target)


def cell_row(result: CellResult, cell: ScoredCell | None) -> dict[str, Any]:
    """Returns a row of cells.csv; one without numbers where the cell has none."""
    fields = {
        **cell_fields(result.cell),
        "verdict": result.verdict,
        "verdict_reasons": "; ".join(result.verdict_reasons),
        "status": result.status,
        "reason": " ".join(result.reason.split()),
        "digest": result.digest,
        **(_numbers(cell) if cell else {}),
    }
    return {column: fields.get(column) for column in CELL_COLUMNS}


def _numbers(cell: ScoredCell) -> dict[str, Any]:
    condition, attacked = cell.condition, cell.result.cell.kind.is_attack
    n = len(cell.after.labels)
    low, high = metrics.wilson_interval(int(cell.after.correct.sum()), n)
    rate = None if cell.succeeded is None else metrics.attack_success_rate(cell.eligible, cell.succeeded)
    return {
        "n_examples": n,
        **cell.after.summary,
        "accuracy_low": low,
        "accuracy_high": high,
        "clean_accuracy": metrics.share(cell.before.correct),
        "robust_accuracy": metrics.share(cell.robust) if attacked else None,
        "attack_success_rate": rate,
        "conclusive": condition.evidence.conclusive if attacked else None,
        **(_audit(cell) if attacked else {}),
        "max_violation": condition.max_violation if attacked else None,
        **{name: getattr(condition, name) for name in ("forwards", "backwards", "seconds", "peak_memory_mb")},
    }


def _audit(cell: ScoredCell) -> dict[str, Any]:
    """Returns what the audit of the attack found; nothing where there was none."""
    found = cell.condition.evidence.audit
    if found is None:
        return {}
    lost = metrics.audit_bound(found.sampled, found.survivors)
    floor = max(0.0, cell.robust.sum() - lost) / len(cell.robust)
    return {"robust_accuracy_floor": floor, "audit_n": found.sampled, "audit_broken": found.broken}


def before_after_row(cell: ScoredCell) -> dict[str, float]:
    """Returns each score on the clean images, on the condition's images, and the difference."""
    row: dict[str, float] = {}
    for name in SCORES:
        before, after = cell.before.summary[name], cell.after.summary[name]
        row |= {f"{name}_before": before, f"{name}_after": after, f"{name}_difference": after - before}
    return row


def per_class_columns(cell: ScoredCell) -> dict[str, NDArray[np.generic]]:
    """Returns the scores of the K classes, by column; `robust_accuracy` and `attack_success_rate` are of the class's examples."""
    report, labels = cell.after.report, cell.after.labels
    areas, nothing = np.full(len(report.support), np.nan), np.full(len(report.support), np.nan)
    areas[[curve.class_index for curve in cell.after.curves]] = [curve.auc for curve in cell.after.curves]
    succeeded, attacked = cell.succeeded, cell.result.cell.kind.is_attack
    return {
        "support": report.support,
        **{score: getattr(report, score) for score in ("precision", "recall", "f1")},
        "roc_auc": areas,
        "robust_accuracy": metrics.share_by_class(cell.robust, labels, len(areas)) if attacked else nothing,
        "attack_success_rate": nothing
        if succeeded is None
        else metrics.share_by_class(succeeded[cell.eligible], labels[cell.eligible], len(areas)),
    }
