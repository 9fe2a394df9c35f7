"""Reads the tables of confusion/ and roc/: a page reads hundreds of them, and pandas takes longer to begin than to read one."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.system.messages import LONGEST_VALUE, cut, shown


def read_matrix(path: Path) -> pd.DataFrame:
    """Returns a table whose first column holds names, whatever they look like, and whose others hold numbers.

    Raises:
        HarnessError: if the file is missing or damaged, or has something else in place of a number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        if any(len(row) != len(head) for row in rows):
            raise ValueError("rows of other lengths than its head")
    except (OSError, ValueError, csv.Error) as error:
        raise HarnessError(f"{path}: expected a table of a run, found {error}") from error
    numbers = [row[1:] for row in rows]
    values = _parsed(numbers, len(head) - 1)
    if values is None:
        column, text = _first_wrong(head[1:], numbers)
        raise HarnessError(f"{path}: column {cut(column, LONGEST_VALUE)}: expected numbers, found {shown(text)}")
    table = pd.DataFrame(values, columns=head[1:])
    table.insert(0, head[0], [row[0] for row in rows])
    return table


def _parsed(rows: Sequence[Sequence[str]], width: int) -> NDArray[Any] | None:
    """Returns texts as whole numbers where all are such, else as decimals; None where one is no number."""
    for kind, dtype in ((int, np.int64), (float, np.float64)):
        try:
            values: NDArray[Any] = np.array([[*map(kind, row)] for row in rows], dtype=dtype).reshape(len(rows), width)
        except (ValueError, OverflowError):
            continue
        return None if np.isnan(values).any() else values
    return None


def _first_wrong(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, str]:
    """Returns the first text that is no number, column by column, with the name of its column."""
    texts = ((name, text) for name, column in zip(columns, zip(*rows, strict=True), strict=True) for text in column)
    return next((name, text) for name, text in texts if _parsed([[text]], 1) is None)
