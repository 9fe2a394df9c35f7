"""The page's pictures of attacked images, of the cells whose images a suite keeps."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.reports.load import Results
from harness.reports.names import condition_label, eps_text, model_label, unique_cell_names

FOLDER = "attacked"
"""Subfolder of the results with the pictures, beside the kept images."""
MOST_PICTURES = 60
"""Pictures that a page shows at most."""


@dataclass(frozen=True)
class Picture:
    """Some examples under one attack, a column each: clean, attacked, difference."""

    title: str
    file: str
    """The kept images, from the results folder; empty where a copy of the folder lacks them."""
    source: str
    """The picture as a data URL."""
    captions: tuple[str, ...]
    """Of each column: the classes before and after, and the smallest budget that changes it."""


def pictures(results: Results) -> Iterator[Picture]:
    """Yields the pictures of a results folder, in the order of the grid.

    Raises:
        HarnessError: if the file beside a picture is damaged.
    """
    if not (results.folder / FOLDER).is_dir():
        return
    rows, shown = results.cells.to_dict("records"), 0
    names = unique_cell_names(rows)
    for row in rows:
        path = results.folder / FOLDER / f"{names[str(row['digest'])]}.png"
        if path.is_file() and path.with_suffix(".json").is_file() and shown < MOST_PICTURES:
            shown += 1
            yield _picture(results, row, path)


def _picture(results: Results, row: Mapping[Any, Any], path: Path) -> Picture:
    kept = path.with_suffix(".h5")
    return Picture(
        title=f"{model_label(row)}, {condition_label(row)}",
        file=f"{FOLDER}/{kept.name}" if kept.is_file() else "",
        source=f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}",
        captions=tuple(_captions(results, path.with_suffix(".json"))),
    )


def _captions(results: Results, path: Path) -> Iterator[str]:
    classes = [str(name) for name in results.provenance["class_names"]]
    try:
        for example in json.loads(path.read_text()):
            before, after = (classes[int(example[name])] for name in ("clean_prediction", "prediction"))
            smallest = example["smallest_eps"]
            since = "" if smallest is None else f" from {eps_text(float(smallest))}"
            yield f"{before} withstands" if before == after else f"{before} → {after}{since}"
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise HarnessError(f"{path}: expected what a picture of attacked images shows, found something else ({error})") from error
