"""Compares a written table with the one that its witnesses give, entry by entry, as text."""

import io
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.errors import HarnessError, first_line
from harness.reports.names import TEXT_COLUMNS
from harness.reports.tables.write import csv_text
from harness.running.verification.findings import Difference, Findings

OTHER_MACHINE = 1e-12
"""Largest relative difference of a number from one that was computed with other libraries or on another processor. They round
logarithms, exponentials and sums otherwise; on the same machine every digit must be the same."""

Row = Mapping[str, str]
Ignore = Callable[[Row, str, str], bool]
"""Called with a row of the derived table, a column and what the file says: whether the witnesses say nothing of that entry."""


class Form(NamedTuple):
    """How the rows of a table are told apart and named."""

    keys: Sequence[str]
    label: Callable[[Row], str]
    later: Collection[str] = ()
    """Columns that older versions did not write."""


def read_text_table(path: Path) -> pd.DataFrame:
    """Returns a CSV file with every entry as it is written.

    Raises:
        HarnessError: if it cannot be read.
    """
    try:
        return _read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HarnessError(f"{path}: expected a table of a run, found {first_line(error)}") from error


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table with every entry as its CSV file has it."""
    return _read(csv_text(table))


def _read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def compare(file: str, written: pd.DataFrame, derived: pd.DataFrame, form: Form, *, ignore: Ignore, tolerance: float) -> Findings:
    """Returns the entries in which a written table differs from a derived one; both hold texts.

    Args:
        file: The file's name.
        written: The table as it lies in the folder.
        derived: The table that the witnesses give.
        form: How rows are paired and named.
        ignore: Which entries the witnesses say nothing of.
        tolerance: Largest relative difference of two numbers that counts as none.
    """
    found = Findings()
    pairs, lone = _paired(_keys(written, form.keys), _keys(derived, form.keys))
    values = {str(name): derived[name].to_numpy() for name in derived.columns}
    for place in lone.written:
        found.differences.append(Difference(file, _label(form, written.iloc[place]), "row", "a row", "none"))
    for place in lone.derived:
        found.differences.append(Difference(file, _label(form, derived.iloc[place]), "row", "none", "a row"))
    left, right = [it[0] for it in pairs], [it[1] for it in pairs]
    for column in derived.columns:
        if column not in written.columns:
            found.unchecked += [f"{file}: column {column}: not written by the version that made it"] * (column in form.later)
            found.differences += [] if column in form.later else [Difference(file, "header", column, "no column", "one")]
            continue
        texts, wanted = written[column].to_numpy()[left], derived[column].to_numpy()[right]
        for place in map(int, np.flatnonzero(texts != wanted)):
            row = {name: str(of_column[right[place]]) for name, of_column in values.items()}
            same = column not in TEXT_COLUMNS and _is_close(texts[place], wanted[place], tolerance)
            if not same and not ignore(row, column, texts[place]):
                found.differences.append(Difference(file, _label(form, row), column, texts[place], wanted[place]))
        found.compared[file] = found.compared.get(file, 0) + len(pairs)
    if extra := [str(column) for column in written.columns if column not in derived.columns]:
        found.unchecked.append(f"{file}: columns {', '.join(extra)}: nothing here says what they should be")
    return found


class _Lone(NamedTuple):
    """Positions of rows without a partner."""

    written: list[int]
    derived: list[int]


def _keys(table: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, ...]]:
    if not names:
        return [()] * len(table)
    columns = [table[name] if name in table else pd.Series([""] * len(table)) for name in names]
    return list(zip(*columns, strict=True))


def _paired(written: list[tuple[str, ...]], derived: list[tuple[str, ...]]) -> tuple[list[tuple[int, int]], _Lone]:
    """Returns the pairs of rows with the same key; rows whose key is edited are paired in their order where as many are left."""
    if written == derived:
        return [(place, place) for place in range(len(written))], _Lone([], [])
    places: dict[tuple[str, ...], list[int]] = {}
    for place, key in enumerate(derived):
        places.setdefault(key, []).append(place)
    pairs = [(place, places[key].pop(0)) for place, key in enumerate(written) if places.get(key)]
    taken = ({left for left, _ in pairs}, {right for _, right in pairs})
    lone = _Lone(
        *([it for it in range(count) if it not in used] for count, used in zip((len(written), len(derived)), taken, strict=True))
    )
    if len(lone.written) == len(lone.derived):
        return sorted([*pairs, *zip(*lone, strict=True)]), _Lone([], [])
    return pairs, lone


def _label(form: Form, row: "Row | pd.Series[str]") -> str:
    return form.label({str(name): str(value) for name, value in row.items()})


def _is_close(left: str, right: str, tolerance: float) -> bool:
    """Returns whether two texts are the same number, as "64" and "64.0" are, or differ by no more than the tolerance."""
    if left.removesuffix(".0") == right.removesuffix(".0"):
        return True
    try:
        return tolerance > 0 and math.isclose(float(left), float(right), rel_tol=tolerance, abs_tol=tolerance)
    except ValueError:
        return False
