"""The page's browser of examples: thumbnails, with what each model makes of them and the smallest budget that fools it."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.conditions import ATTACK, CLEAN
from harness.errors import HarnessError, first_line
from harness.reports.load import Results
from harness.reports.names import eps_text, model_label
from harness.reports.tables.reference import reference

FOLDER = "examples"
"""Subfolder of the results with the thumbnails."""
SHEET = f"{FOLDER}/sheet.jpg"
"""All thumbnails, squares of one size, row by row."""
TABLE = f"{FOLDER}/sheet.csv"
"""Which examples they are."""
ACROSS = 20
"""Thumbnails in a row of the sheet."""
MOST_MODELS = 3
"""Number of models up to which every model's line is shown at first."""
NEVER, UNKNOWN = "never", ""
SINGLE = 1e-6
"""Outcomes hold budgets in single precision, tables in double."""


class Row(NamedTuple):
    """A row of the table."""

    place: int
    example_id: str
    content_hash: str
    class_name: str


COLUMNS = ("place", "example_id", "content_hash", "class")


@dataclass(frozen=True)
class ModelLine:
    """What a model makes of an example."""

    model: str
    misclassified_at: str
    """The place, among all budgets and from 1, of the smallest budget at which an attack succeeds; 0 where the clean image is
    misclassified; `NEVER`; or `UNKNOWN` where no attack was run."""
    text: str
    """The class that is predicted of the clean image, and from which budget on the example is misclassified."""


@dataclass(frozen=True)
class Example:
    """A thumbnail with its lines."""

    example_id: str
    class_name: str
    column: int
    """Place in a row of the sheet."""
    row: int
    lines: tuple[ModelLine, ...]


@dataclass(frozen=True)
class Browser:
    """The examples, and what they can be chosen by."""

    sheet: str
    """The sheet as a data URL."""
    across: int
    """Thumbnails in a row of it."""
    down: int
    """Rows of it."""
    norm: str
    """Of the budgets; empty without any."""
    budgets: tuple[str, ...]
    classes: tuple[str, ...]
    models: tuple[str, ...]
    shown_model: str
    """The place of the model that is chosen at first; empty for all."""
    examples: tuple[Example, ...]


def browser_of(results: Results) -> Browser | None:
    """Returns the browser of examples; None where the folder has no thumbnails, or no table of examples.

    Raises:
        HarnessError: if the table of thumbnails is damaged.
    """
    if not ((results.folder / SHEET).is_file() and (results.folder / TABLE).is_file() and results.has_samples):
        return None
    rows = _rows(results)
    norm, _ = reference(results.whole.sweep, results.provenance.get("suite") or {})
    known = _of_models(results, norm, [row.example_id for row in rows])
    if not rows or not known:
        return None
    budgets = sorted({float(eps) for eps in results.sweep.loc[results.sweep["norm"] == norm, "eps"]})
    texts, models = tuple(map(eps_text, budgets)), tuple(known)
    names = [str(name) for name in results.provenance["class_names"]]
    examples = tuple(_examples(rows, known, names, np.asarray(budgets)))
    classes = tuple(dict.fromkeys(row.class_name for row in rows))
    sheet = f"data:image/jpeg;base64,{base64.b64encode((results.folder / SHEET).read_bytes()).decode()}"
    size = min(ACROSS, len(rows)), -(-len(rows) // ACROSS)
    best = str(models.index(_best(results, models))) if len(models) > MOST_MODELS else ""
    return Browser(sheet, *size, norm or "", texts, classes, models, best, examples)


def _rows(results: Results) -> list[Row]:
    path = results.folder / TABLE
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = [Row(int(place), *texts) for place, *texts in table[list(COLUMNS)].itertuples(index=False)]
        if [row.place for row in rows] != list(range(len(rows))):
            raise ValueError("places out of order")
    except (OSError, ValueError, KeyError) as error:
        raise HarnessError(f"{path}: expected a table of thumbnails, found something else ({first_line(error)})") from error
    return rows


def _of_models(results: Results, norm: str | None, ids: Sequence[str]) -> Mapping[str, pd.DataFrame]:
    """Returns, by model, one row an example: its prediction when clean, and `smallest`, the smallest budget that fools it.

    That is 0 where the clean image is classified wrongly, infinite where no attack succeeded, and missing where none was run.
    """
    cells = results.cells[results.cells["accuracy"].notna()]
    cells = cells[cells["condition"].eq(CLEAN) | (cells["condition"].eq(ATTACK) & (cells["norm"] == norm))]
    labels = {str(row["digest"]): model_label(row) for row in cells.to_dict("records")}
    clean = set(cells.loc[cells["condition"].eq(CLEAN), "digest"])
    if not clean:  # the table of a run without results has no columns for them
        return {}
    samples = results.samples[["digest", "example_id", "clean_prediction", "clean_correct", "smallest_eps"]]
    samples = samples[samples["example_id"].isin(ids) & samples["digest"].isin(labels)]
    samples = samples.assign(digest=samples["digest"].astype(object), example_id=samples["example_id"].astype(object))
    found = {}
    for label, rows in samples.groupby(samples["digest"].map(labels), sort=False):
        of_clean = rows[rows["digest"].isin(clean)].drop_duplicates("example_id").set_index("example_id")
        if of_clean.empty:
            continue
        smallest = rows.groupby("example_id", sort=False)["smallest_eps"].min().reindex(of_clean.index)
        found[str(label)] = of_clean.assign(smallest=smallest.where(of_clean["clean_correct"].astype(bool), 0.0))
    return {label: found[label] for label in dict.fromkeys(labels.values()) if label in found}


def _examples(
    rows: Sequence[Row], known: Mapping[str, pd.DataFrame], names: Sequence[str], budgets: NDArray[np.float64]
) -> Iterator[Example]:
    columns = {label: table.to_dict("index") for label, table in known.items()}
    for row in rows:
        lines = [_line(label, table.get(row.example_id), names, budgets) for label, table in columns.items()]
        yield Example(row.example_id, row.class_name, row.place % ACROSS, row.place // ACROSS, tuple(lines))


def _line(model: str, found: Mapping[Any, Any] | None, names: Sequence[str], budgets: NDArray[np.float64]) -> ModelLine:
    if found is None:
        return ModelLine(model, UNKNOWN, "not scored")
    prediction, smallest = names[int(found["clean_prediction"])], float(found["smallest"])
    if np.isnan(smallest):
        return ModelLine(model, UNKNOWN, f"{prediction}, not attacked")
    if smallest == 0:
        return ModelLine(model, "0", f"{prediction}, misclassified when clean")
    place = int(np.searchsorted(budgets * (1 + SINGLE), smallest))
    if place == len(budgets):
        return ModelLine(model, NEVER, f"{prediction}, not misclassified")
    return ModelLine(model, str(place + 1), f"{prediction}, misclassified from {eps_text(budgets[place])}")


def _best(results: Results, models: Sequence[str]) -> str:
    """Returns the first model of the leaderboard."""
    return next((label for row in results.leaderboard.to_dict("records") if (label := model_label(row)) in models), models[0])
