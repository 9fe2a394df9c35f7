"""The mean accuracy over the common corruptions."""

import math

import pandas as pd

from harness.records import Status

COMMON_GROUPS = ("noise", "blur", "weather", "digital")
"""Groups of the common corruptions. Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261, section 3."""
LOST = (Status.FAILED, Status.NOT_RUN)


def common_corruptions(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the common corruptions; rotation, occlusion and others are in no mean."""
    return cells[(cells["condition"] == "corruption") & cells["corruption_group"].isin(COMMON_GROUPS)]


def mean_corruption_accuracy(cells: pd.DataFrame) -> float:
    """Returns one model's accuracy over severities, averaged by corruption, and then over corruptions.

    Each corruption counts once, however many severities it has. The mean is missing where a cell failed or was not run.

    Args:
        cells: Rows of cells.csv, of one model.

    Source: Hendrycks & Dietterich 2019, section 4.2, with accuracies for errors and no network to divide by.
    """
    common = common_corruptions(cells)
    return math.nan if common["status"].isin(LOST).any() else float(common.groupby("corruption")["accuracy"].mean().mean())
