"""What a training run tells of itself: one row an epoch, the choice of an epoch, and the warnings in words."""

from collections.abc import Mapping, Sequence
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

LAST = "last_epoch"
"""What an epoch is chosen by where no split is held out to choose one."""
COLLAPSE = 0.5
"""Robust accuracy has collapsed when it is below this share of the best one before."""
STILL_HIGH = 0.9
"""Accuracy under the training attack is still high when it is above this share of the one in the best epoch."""
NOTABLE = 0.05
"""Loss of robust accuracy between the most robust and the last epoch that is worth a warning."""
LEARNT = 0.75
"""A network has learnt to withstand its training attack when it does so on more than this share of the images."""
NEXT_TO_NOTHING = 0.1
"""Robust accuracy under PGD is next to nothing below this share of the accuracy under the training attack."""


def validated(history: Sequence[Row]) -> list[Row]:
    """Returns the epochs that were validated."""
    return [row for row in history if "validation_accuracy" in row]


def judged_by(history: Sequence[Row], measure: str) -> str:
    """Returns the column of a measure, "accuracy" or "loss", on the validation split: under attack where it is known."""
    robust = f"validation_robust_{measure}"
    return robust if any(robust in row for row in history) else f"validation_{measure}"


def catastrophic_overfitting(history: Sequence[Row]) -> bool:
    """Returns whether the last of some validated epochs withstands the attack that it was trained on and is fooled by PGD.

    It was robust in an epoch before, or never: a step too large for its budget overfits from the start.

    Source: Wong et al. 2020, https://arxiv.org/abs/2001.03994, section 5.4.
    """
    *before, last = history
    if not before:
        return False
    if last.get("eps") == before[-1].get("eps") and _fools_itself(before[-1]) and _fools_itself(last):
        return True
    best = max(before, key=lambda row: row["validation_robust_accuracy"])
    collapsed = last["validation_robust_accuracy"] < COLLAPSE * best["validation_robust_accuracy"]
    return collapsed and last["train_accuracy"] > STILL_HIGH * best["train_accuracy"]


def _fools_itself(row: Row) -> bool:
    """Returns whether an epoch withstands its training attack and not PGD."""
    return row["train_accuracy"] > LEARNT and row["validation_robust_accuracy"] < NEXT_TO_NOTHING * row["train_accuracy"]


def summarise(
    history: Sequence[Row], best_epoch: int, planned_epochs: int, keep_by: str = "accuracy", *, validation: str = "held_out"
) -> dict[str, Any]:
    """Returns the summary of a training run, in plain JSON values.

    Args:
        history: One row an epoch.
        best_epoch: The epoch whose weights are kept, counted from 1.
        planned_epochs: The recipe's epochs.
        keep_by: What that epoch is the best in; see `Recipe.keep_by`.
        validation: Whether the split it was chosen on was held out; see `Recipe.validation`.
    """
    column = judged_by(history, "accuracy")
    judged = validated(history)
    kept, last = history[best_epoch - 1], judged[-1]
    peak = max(judged, key=lambda row: row[column])
    adversarial = column in ROBUST_COLUMNS
    overfitted = [int(row["epoch"]) for row in history if row.get("catastrophic_overfitting")]
    summary = {
        "epochs": len(history),
        "stopped_early": len(history) < planned_epochs,
        "chosen_by": LAST if validation == "learned" else judged_by(history, keep_by),
        "validation_accuracy": kept["validation_accuracy"],
        "validation_robust_accuracy": kept.get("validation_robust_accuracy"),
        "robust_overfitting": peak[column] - last[column] if adversarial else None,
        "collapsed": kept["predicted_classes"] == 1,
        "catastrophic_overfitting": overfitted[0] if overfitted else None,
        "seconds": sum(row["seconds"] for row in history),
        "attack_share": sum(row["attack_share"] * row["seconds"] for row in history) / sum(row["seconds"] for row in history),
    }
    return {**summary, "warnings": _warnings(summary, best_epoch, int(peak["epoch"]))}


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
