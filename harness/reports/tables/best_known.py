"""The table best_known.csv: robust accuracy once images from elsewhere count too, beside what was measured."""

import numpy as np
import pandas as pd

from harness.conditions import ATTACK
from harness.metrics import share, wilson_interval
from harness.reports.names import MODEL_COLUMNS, with_column_types
from harness.reports.tables.sweep import members_of_worst_case
from harness.threat import TOLERANCE

BEST_KNOWN_COLUMNS = (
    *(*MODEL_COLUMNS, "norm", "eps", "n_examples", "robust_accuracy"),
    *("best_known_robust_accuracy", "best_known_robust_accuracy_low", "best_known_robust_accuracy_high", "from_elsewhere"),
)
"""Columns of best_known.csv, in order. `robust_accuracy` is the worst case over the run's attacks, as in sweep.csv;
`best_known_robust_accuracy` counts the examples out, too, that an image from elsewhere within the budget makes adversarial, with
its 95 % Wilson interval; `from_elsewhere` is the number of examples that only such images do."""
IMAGE_COLUMNS = (
    *(*MODEL_COLUMNS, "norm", "example_id", "content_hash", "distance", "prediction", "model_digest", "file", "file_sha256"),
)
"""Columns of best_known_images.csv, in order: one row for each image from elsewhere that the model misclassifies, of an example
that it classifies correctly when clean. `distance` is that from the clean image; `model_digest` is the step that made the
model, and images for another one do not count."""


def best_known_table(cells: pd.DataFrame, samples: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each model, norm and budget that has a worst case.

    Args:
        cells: The table cells.csv.
        samples: The table samples.parquet.
        images: The table best_known_images.csv, without the images for models that are no longer those of the run.
    """
    attacked = cells[(cells["condition"] == ATTACK) & cells["robust_accuracy"].notna() & cells["eps"].notna()]
    of_cell = {str(digest): group for digest, group in samples.groupby("digest", sort=False, observed=True)}
    rows = []
    for key, group in attacked.groupby([*MODEL_COLUMNS, "norm"], dropna=False, sort=False):
        own = images[_is_same(images, dict(zip([*MODEL_COLUMNS, "norm"], key, strict=True)))]
        untargeted = group.loc[~group["targeted"].astype(bool), "eps"]
        for eps in sorted(untargeted.unique()):
            members = [of_cell[str(digest)] for digest in members_of_worst_case(group, float(eps))["digest"]]
            correct = np.logical_and.reduce([member["clean_correct"].to_numpy(bool) for member in members])
            measured = correct & ~np.logical_or.reduce([member["fooled"].to_numpy(bool) for member in members])
            within = own[own["distance"].astype(float) <= float(eps) + TOLERANCE]
            known = measured & ~members[0]["example_id"].astype(str).isin(set(within["example_id"])).to_numpy()
            low, high = wilson_interval(int(known.sum()), len(known))
            numbers = (len(known), share(measured), share(known), low, high, int(measured.sum() - known.sum()))
            rows.append((*key, float(eps), *numbers))
    return with_column_types(pd.DataFrame(rows, columns=list(BEST_KNOWN_COLUMNS)))


def _is_same(table: pd.DataFrame, wanted: dict[str, object]) -> "pd.Series[bool]":
    """Returns which rows have these entries; missing ones are equal."""
    found = pd.Series(data=True, index=table.index)
    for name, value in wanted.items():
        found &= table[name].isna() if pd.isna(value) else table[name] == value  # type: ignore[call-overload]
    return found
