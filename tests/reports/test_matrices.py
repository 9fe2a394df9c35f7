"""Matrices are read back as they were written, whatever the classes are called."""

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.reports.matrices import read_matrix
from harness.reports.names import is_missing
from harness.reports.rows import rows_of

CLASSES = ["targeted", "rank", "seed", "null", "1", "a, b", 'say "beet"', "reason", "nan", ""]
"""Names that mean something else elsewhere: columns with types of their own, missing values, numbers, marks of CSV."""


def write(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def test_counts_and_names_of_classes_are_read_back(tmp_path: Path) -> None:
    counts = np.arange(len(CLASSES) ** 2).reshape(len(CLASSES), -1)
    rows = [[name, *row] for name, row in zip(CLASSES, counts.tolist(), strict=True)]
    found = read_matrix(write(tmp_path / "a.csv", [["true_class", *CLASSES], *rows])).set_index("true_class")
    assert list(found.index) == list(found.columns) == CLASSES
    assert found.to_numpy().dtype == np.int64
    assert (found.to_numpy() == counts).all()


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
def test_decimals_are_read_back_to_the_last_digit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("roc") / "a.csv"
    found = read_matrix(write(path, [["class", "threshold"], *(["beet", value] for value in values)]))
    assert found["threshold"].tolist() == values
    assert found["class"].tolist() == ["beet"] * len(values)


def test_a_matrix_of_no_examples_has_its_columns(tmp_path: Path) -> None:
    found = read_matrix(write(tmp_path / "a.csv", [["class", "threshold"]]))
    assert (list(found), len(found)) == (["class", "threshold"], 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class,a\nx,ten\n", r"a\.csv: column a: expected numbers, found 'ten'"),
        ("class,a\nx,nan\n", r"a\.csv: column a: expected numbers, found 'nan'"),
        ("class,a\nx,\n", r"a\.csv: column a: expected numbers, found ''"),
        ("class,a\nx\n", r"a\.csv: expected a table of a run, found rows of other lengths"),
        ("", r"a\.csv: expected a table of a run, found"),
    ],
)
def test_a_damaged_matrix_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(HarnessError, match=said):
        read_matrix(tmp_path / "a.csv")


def test_a_missing_matrix_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"a\.csv: expected a table of a run, found"):
        read_matrix(tmp_path / "a.csv")


def test_rows_are_those_of_pandas() -> None:
    table = pd.DataFrame({"a": [1.5, math.nan], "b": pd.array([1, None], "Int64"), "c": ["x", None], "d": [True, False]})
    expected = table.to_dict("records")
    for row, other in zip(rows_of(table), expected, strict=True):
        assert {name: None if is_missing(value) else value for name, value in row.items()} == {
            name: None if pd.isna(value) else value for name, value in other.items()
        }
        assert [type(row[name]) for name in row if not is_missing(row[name])] == [
            type(other[name]) for name in other if not pd.isna(other[name])
        ]
    assert rows_of(table.iloc[:0]) == []
