"""Writes thumbnails of test examples into the results folder, for the page's browser of examples."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.reports.files import staged
from harness.reports.page.examples import ACROSS, COLUMNS, FOLDER, SHEET, TABLE, Row

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from harness.images import ImageSplit
    from harness.running.finished import FinishedRun

MOST = 300
"""Thumbnails at most."""
SIDE = 64
"""Pixels of a thumbnail's side at most."""
BLOCK = 8
"""A side is a multiple of JPEG's blocks, so that no block holds pixels of two thumbnails. Source: ITU-T T.81."""
MOST_BYTES = 2 * 10**6
"""Size of the sheet at most."""
HEAD = 1024
"""Bytes of a JPEG in which its comment stands."""
QUALITIES = (90, 75, 50, 25, 5)
"""Of the JPEG, tried in turn until the sheet is small enough."""

logger = logging.getLogger(__name__)


def write_thumbnails(run: FinishedRun, folder: Path) -> None:
    """Writes thumbnails of some judged examples, and a table of which they are; reads no image where both are there already.

    Args:
        run: The run.
        folder: The results folder.

    Raises:
        HarnessError: if the folder cannot be written.
    """
    data = run.context.data
    examples = run.plan.examples.of(data)
    chosen = first_of_each_class(examples.labels, MOST)
    table = _text(_rows(examples, chosen, data.class_names))
    source = sha256(run.plan.suite.dataset.model_dump_json().encode()).hexdigest()
    if _is_there(folder, table, source):
        return
    sheet = _sheet_if_there(examples, chosen, source)
    with staged(folder, owned={FOLDER: (".csv", ".jpg")}) as staging:
        (staging / FOLDER).mkdir()
        if sheet is not None:
            (staging / SHEET).write_bytes(sheet)
            (staging / TABLE).write_bytes(table.encode())


def _is_there(folder: Path, table: str, source: str) -> bool:
    """Returns whether a folder has the thumbnails of these examples, as the data set gives them now: by its size of images."""
    try:
        with (folder / SHEET).open("rb") as sheet:
            return source.encode() in sheet.read(HEAD) and (folder / TABLE).read_bytes() == table.encode()
    except OSError:
        return False


def _sheet_if_there(examples: ImageSplit, chosen: Sequence[int], source: str) -> bytes | None:
    """Returns the sheet; None without examples, or where their images are gone: a run of stored steps does without."""
    try:
        return sheet_of(examples, chosen, source) if chosen else None
    except HarnessError as error:
        logger.warning("no thumbnails of examples: %s", error)
        return None


def first_of_each_class(labels: NDArray[np.int64], most: int) -> list[int]:
    """Returns the places of up to `most` examples: of each class the first, then of each the second, and so on; class by class.

    Args:
        labels: Classes (N,).
        most: Their number at most.
    """
    order = np.argsort(labels, kind="stable")
    of_class = labels[order]
    turn = np.arange(len(order)) - np.searchsorted(of_class, of_class)
    first = np.lexsort((of_class, turn))[:most]
    return [int(order[place]) for place in sorted(first)]


def sheet_of(examples: ImageSplit, chosen: Sequence[int], source: str = "") -> bytes:
    """Returns a JPEG of the chosen examples, `ACROSS` in a row, of at most `MOST_BYTES`.

    Args:
        examples: All examples.
        chosen: Places of those that are shown, at least one.
        source: The comment of the JPEG, by which it is told from one of other settings of the data set.
    """
    from PIL import Image

    images = [_thumbnail(examples, place) for place in chosen]
    side = images[0].width
    canvas = Image.new("RGB", (side * min(ACROSS, len(images)), side * -(-len(images) // ACROSS)))
    for place, image in enumerate(images):
        canvas.paste(image, (place % ACROSS * side, place // ACROSS * side))
    return next(found for found in (_jpeg(canvas, quality, source) for quality in QUALITIES) if len(found) <= MOST_BYTES)


def _thumbnail(examples: ImageSplit, place: int) -> Image.Image:
    from PIL import Image

    pixels = (examples[place][0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels).convert("RGB")
    side = min(SIDE, -(-image.width // BLOCK) * BLOCK)
    return image if image.size == (side, side) else image.resize((side, side), Image.Resampling.LANCZOS)


def _jpeg(image: Image.Image, quality: int, comment: str) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=0, comment=comment)
    return file.getvalue()


def _rows(examples: ImageSplit, chosen: Sequence[int], class_names: Sequence[str]) -> Iterator[Row]:
    for place, index in enumerate(chosen):
        yield Row(place, examples.ids[index], examples.hashes[index], class_names[int(examples.labels[index])])


def _text(rows: Iterator[Row]) -> str:
    """Returns rows as CSV; pandas, which other tables are written with, need not be imported for it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([COLUMNS, *rows])
    return file.getvalue()
