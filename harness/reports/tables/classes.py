"""The class on which a model does worst."""

from typing import Any

import pandas as pd

from harness.conditions import CLEAN
from harness.metrics import wilson_interval
from harness.reports.names import is_missing

WORST_CLASS = ("worst_class", "worst_class_recall", "worst_class_recall_low", "worst_class_recall_high", "worst_class_n")


def worst_class(cells: pd.DataFrame, per_class: pd.DataFrame | None) -> dict[str, Any]:
    """Returns the class of lowest recall on clean images, with the number of its examples and the interval of its recall.

    Of equals the one with most examples, whose recall is known best.

    Args:
        cells: Rows of cells.csv, of one model.
        per_class: The table per_class.csv.
    """
    clean = cells.loc[(cells["condition"] == CLEAN) & cells["accuracy"].notna(), "digest"]
    rows = pd.DataFrame() if per_class is None or clean.empty else per_class[per_class["digest"] == clean.iloc[0]]
    classes = [row for row in rows.to_dict("records") if row["support"] > 0 and not is_missing(row["recall"])]
    if not classes:
        return dict.fromkeys(WORST_CLASS)
    least = min(classes, key=lambda row: (float(row["recall"]), -int(row["support"])))
    recall, n = float(least["recall"]), int(least["support"])
    return dict(zip(WORST_CLASS, (least["class"], recall, *wilson_interval(round(recall * n), n), n), strict=True))
