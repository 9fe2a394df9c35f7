"""The class on which a model does worst."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.conditions import CLEAN
from harness.metrics import wilson_interval
from harness.reports.names import is_missing

WORST_CLASS = ("worst_class", "worst_class_recall", "worst_class_recall_low", "worst_class_recall_high", "worst_class_n")


def classes_on_clean_images(cells: pd.DataFrame, per_class: pd.DataFrame | None) -> Mapping[str, pd.DataFrame]:
    """Returns the rows of per_class.csv of the clean cells, by digest.

    Args:
        cells: The table cells.csv.
        per_class: The table per_class.csv; None where it is not known.
    """
    if per_class is None:
        return {}
    own = per_class[per_class["digest"].isin(cells.loc[cells["condition"] == CLEAN, "digest"])]
    return {str(digest): rows for digest, rows in own.groupby("digest", sort=False)}


def worst_class(cells: pd.DataFrame, classes: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Returns the class of lowest recall on clean images, with the number of its examples and the interval of its recall.

    Of equals the one with most examples, whose recall is known best.

    Args:
        cells: Rows of cells.csv, of one model.
        classes: What `classes_on_clean_images` returns.
    """
    clean = cells.loc[(cells["condition"] == CLEAN) & cells["accuracy"].notna(), "digest"]
    rows = pd.DataFrame() if clean.empty else classes.get(str(clean.iloc[0]), pd.DataFrame())
    known = [row for row in rows.to_dict("records") if row["support"] > 0 and not is_missing(row["recall"])]
    if not known:
        return dict.fromkeys(WORST_CLASS)
    least = min(known, key=lambda row: (float(row["recall"]), -int(row["support"])))
    recall, n = float(least["recall"]), int(least["support"])
    return dict(zip(WORST_CLASS, (least["class"], recall, *wilson_interval(round(recall * n), n), n), strict=True))
