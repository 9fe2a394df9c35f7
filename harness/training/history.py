"""The history of a training run, one row an epoch, and its summary: which epoch is kept and why, and warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, float]
"""One epoch: column -> value. The columns are `COLUMNS`, and for adversarial recipes `ROBUST_COLUMNS` too; an epoch that was
not validated lacks those of the validation."""

COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "validation_accuracy",
    "validation_loss",
    "predicted_classes",
    "seconds",
    "attack_share",
)
ROBUST_COLUMNS = (
    "eps",
    "train_clean_accuracy",
    "validation_robust_accuracy",
    "validation_robust_loss",
    "catastrophic_overfitting",
)
REDUCED = "reduced_micro_batch"
"""Column of epochs that were computed in smaller parts of batches than the recipe says, as memory was short: images of a part."""

LAST = "last_epoch"
"""Value of `chosen_by` where no split is held out to choose an epoch."""
COLLAPSE = 0.5
"""Robust accuracy has collapsed when it is below this share of the best one before."""
STILL_HIGH = 0.9
"""Accuracy under the training attack is still high above this share of the one in the best epoch."""
NOTABLE = 0.05
"""A warning names a loss of robust accuracy, from the most robust to the last epoch, above this."""
LEARNT = 0.75
"""A network withstands its training attack if it classifies more than this share of the attacked images correctly."""
NEXT_TO_NOTHING = 0.1
"""A network fails under PGD if its accuracy there is below this share of the one under the training attack."""


def validated(history: Sequence[Row]) -> list[Row]:
    """Returns the epochs that were validated."""
    return [row for row in history if "validation_accuracy" in row]


def validation_column(history: Sequence[Row], measure: str) -> str:
    """Returns the column of a measure, "accuracy" or "loss", on the validation split: under attack where it is known."""
    robust = f"validation_robust_{measure}"
    return robust if any(robust in row for row in history) else f"validation_{measure}"


def catastrophic_overfitting(history: Sequence[Row]) -> bool:
    """Returns whether the network of the last validated epoch withstands its training attack and fails under PGD.

    It was robust in an epoch before, or never: with a step too large for its budget it overfits from the start.

    Source: Wong et al. 2020, https://arxiv.org/abs/2001.03994, section 5.4.
    """
    *before, last = history
    if not before:
        return False
    if last.get("eps") == before[-1].get("eps") and _fails_under_pgd_alone(before[-1]) and _fails_under_pgd_alone(last):
        return True
    best = max(before, key=lambda row: row["validation_robust_accuracy"])
    collapsed = last["validation_robust_accuracy"] < COLLAPSE * best["validation_robust_accuracy"]
    return collapsed and last["train_accuracy"] > STILL_HIGH * best["train_accuracy"]


def _fails_under_pgd_alone(row: Row) -> bool:
    """Returns whether an epoch's network withstands its training attack and fails under PGD."""
    return row["train_accuracy"] > LEARNT and row["validation_robust_accuracy"] < NEXT_TO_NOTHING * row["train_accuracy"]


def summarise(
    history: Sequence[Row], best_epoch: int, planned_epochs: int, keep_by: str = "accuracy", *, validation: str = "held_out"
) -> dict[str, Any]:
    """Returns the summary of a training run, in plain JSON values.

    Args:
        history: One row an epoch.
        best_epoch: The epoch whose weights are kept, counted from 1.
        planned_epochs: The recipe's epochs.
        keep_by: The measure in which that epoch is the best; see `Recipe.keep_by`.
        validation: Whether the validation split was held out; see `Recipe.validation`.
    """
    column = validation_column(history, "accuracy")
    epochs = validated(history)
    kept, last = history[best_epoch - 1], epochs[-1]
    peak = max(epochs, key=lambda row: row[column])
    adversarial = column in ROBUST_COLUMNS
    overfitted = [int(row["epoch"]) for row in history if row.get("catastrophic_overfitting")]
    summary = {
        "epochs": len(history),
        "stopped_early": len(history) < planned_epochs,
        "chosen_by": LAST if validation == "learned" else validation_column(history, keep_by),
        "validation_accuracy": kept["validation_accuracy"],
        "validation_robust_accuracy": kept.get("validation_robust_accuracy"),
        "robust_overfitting": peak[column] - last[column] if adversarial else None,
        "collapsed": kept["predicted_classes"] == 1,
        "catastrophic_overfitting": overfitted[0] if overfitted else None,
        "seconds": sum(row["seconds"] for row in history),
        "attack_share": sum(row["attack_share"] * row["seconds"] for row in history) / sum(row["seconds"] for row in history),
    }
    return {**summary, "warnings": [*_reductions(history), *_warnings(summary, best_epoch, int(peak["epoch"]))]}


def reduced_to(history: Sequence[Row]) -> int | None:
    """Returns how many images a part of a batch had in the last epoch, where memory was too short for the recipe's."""
    return int(history[-1][REDUCED]) if history and REDUCED in history[-1] else None


def _reductions(history: Sequence[Row]) -> list[str]:
    """Returns a warning for each size that parts of batches were reduced to, with the first epoch that was computed in them."""
    first = {int(row[REDUCED]): int(row["epoch"]) for row in reversed(history) if REDUCED in row}
    return [
        f"memory was short: from epoch {epoch} on each update was computed in parts of {size} images, over which alone batch norm"
        " takes its statistics; the updates are as many and over as many images as the recipe says"
        for size, epoch in sorted(first.items(), key=lambda it: it[1])
    ]


def _warnings(summary: Mapping[str, Any], best_epoch: int, peak_epoch: int) -> list[str]:
    found = []
    if summary["chosen_by"] == LAST:
        found.append("the validation images were learned from: accuracies on them say nothing of other images")
    if summary["collapsed"]:
        found.append("collapsed: it predicts one class for every validation image")
    if (epoch := summary["catastrophic_overfitting"]) is not None:
        text = "from then on PGD breaks what the training attack does not"
        found.append(f"catastrophic overfitting in epoch {epoch}: {text}, so the weights of epoch {best_epoch} are kept")
    if (loss := summary["robust_overfitting"] or 0) > NOTABLE:
        found.append(f"robust overfitting: the last epoch is {100 * loss:.1f} points less robust than epoch {peak_epoch}")
    return found


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run besides the weights, which are in the model."""

    history: tuple[Row, ...]
    """One row an epoch, see `harness.training.history`."""
    best_epoch: int
    """The epoch whose weights are kept, counted from 1."""
    summary: Mapping[str, Any]
    """Plain JSON values: the measure that chose the epoch, its accuracies, robust_overfitting, collapsed,
    catastrophic_overfitting, and "warnings" as text."""
