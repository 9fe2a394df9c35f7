"""Keeps which images from elsewhere a model misclassifies, and what is left of its robust accuracy then."""

from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import HarnessError, first_line
from harness.reports.load import Results
from harness.reports.names import MODEL_COLUMNS, TEXT_COLUMNS, model_label, with_column_types
from harness.reports.tables.best_known import IMAGE_COLUMNS, best_known_table
from harness.reports.tables.write import write_csv

TABLE = "best_known.csv"
IMAGES = "best_known_images.csv"
TEXTS = (*TEXT_COLUMNS, "example_id", "content_hash", "model_digest", "file", "file_sha256")


def known_images(folder: Path) -> pd.DataFrame:
    """Returns the table best_known_images.csv of a results folder, without rows where there is none.

    Raises:
        HarnessError: if it cannot be read.
    """
    path = folder / IMAGES
    if not path.is_file():
        return pd.DataFrame(columns=list(IMAGE_COLUMNS))
    try:
        table = pd.read_csv(
            path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=[""], float_precision="round_trip"
        )
        return with_column_types(table[list(IMAGE_COLUMNS)])
    except Exception as error:  # what the parser meets in damaged bytes
        raise HarnessError(
            f"{path}: expected the table that `harness verify --images` writes, found {first_line(error)}"
        ) from error


def current_images(results: Results) -> pd.DataFrame:
    """Returns the known images for models that are those of the run; a model that was trained anew has lost its own.

    Raises:
        HarnessError: if the table cannot be read.
    """
    images, models = known_images(results.folder), results.provenance.get("models", {})
    current = [row["model_digest"] == model_digest(models, row) for row in images.to_dict("records")]
    return images[pd.Series(current, index=images.index, dtype=bool)]


def model_digest(models: dict[str, Any], row: Any) -> str | None:
    """Returns the digest of the step that made the model of a row, as a run records it; None where it records none."""
    found = models.get(model_label(row), {})
    return found.get("training", found.get("given"))


def with_images(results: Results, found: pd.DataFrame) -> pd.DataFrame:
    """Adds images to those that are known, writes both tables, and returns best_known.csv.

    Of several images of one example for one model and norm the nearest is kept. No other table is touched.

    Args:
        results: The results folder.
        found: Rows of best_known_images.csv.

    Raises:
        HarnessError: if a table cannot be read or written.
    """
    joined = found if (known := current_images(results)).empty else pd.concat([known, found], ignore_index=True)
    nearest = joined.sort_values("distance", kind="stable").drop_duplicates([*MODEL_COLUMNS, "norm", "example_id"])
    images = with_column_types(nearest.sort_values([*MODEL_COLUMNS, "norm", "example_id"], kind="stable"))
    table = best_known_table(results.cells, results.samples, images)
    write_csv(images[list(IMAGE_COLUMNS)], results.folder / IMAGES)
    write_csv(table, results.folder / TABLE)
    return table
