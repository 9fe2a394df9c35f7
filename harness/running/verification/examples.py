"""Compares samples.parquet with the outcomes that it was written from, and with itself where there are none."""

from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd

from harness.reports.load import Results
from harness.reports.names import cell_name
from harness.running.verification.findings import Difference, Findings

COLUMNS = (
    "label",
    "clean_prediction",
    "prediction",
    "clean_correct",
    "correct",
    "eligible",
    "fooled",
    "smallest_eps",
    "distance",
)
"""Columns of samples.parquet that hold results."""
FILE = "samples.parquet"
LISTED = 3
"""Examples of a cell that are named; of the others the number is."""


def compare_samples(results: Results, derived: pd.DataFrame, *, skipped: Collection[str]) -> Findings:
    """Returns the examples that are not what the witnesses say.

    Args:
        results: The results folder.
        derived: The table that the witnesses give.
        skipped: Digests of cells without witnesses.
    """
    if not results.has_samples:
        return Findings(unchecked=[f"{FILE}: the folder has none"])
    found, count = Findings(), 0
    groups = derived.groupby("digest", sort=False, observed=True).indices
    for digest, places in groups.items():
        own, wanted = results.samples_of(str(digest)), derived.iloc[places]
        row = cell_name(wanted.iloc[0].to_dict())
        if len(own) != len(wanted):
            found.differences.append(Difference(FILE, row, "rows", str(len(own)), str(len(wanted))))
            continue
        for column in COLUMNS:
            found.differences += _of_column(row, column, own, wanted)
            count += len(wanted)
    found.compared[FILE] = count
    for digest in set(results.samples["digest"].astype(str)) - set(map(str, groups)) - set(skipped):
        found.differences.append(
            Difference(FILE, f"cell {digest[:12]}", "rows", "examples", "none, as cells.csv has no such cell")
        )
    return found


def _of_column(row: str, column: str, own: pd.DataFrame, wanted: pd.DataFrame) -> Iterator[Difference]:
    if column not in own:
        yield Difference(FILE, row, column, "no column", "one")
        return
    left, right = own[column].to_numpy(), wanted[column].to_numpy()
    equal = left == right
    if np.issubdtype(right.dtype, np.floating):
        equal |= np.isnan(left.astype(float)) & np.isnan(right)
    wrong = np.flatnonzero(~equal)
    for place in wrong[:LISTED]:
        yield Difference(FILE, f"{row}, {own['example_id'].iloc[place]}", column, str(left[place]), str(right[place]))
    if len(wrong) > LISTED:
        yield Difference(FILE, f"{row}, {len(wrong) - LISTED} more examples", column, "others", "those of the outcome")
