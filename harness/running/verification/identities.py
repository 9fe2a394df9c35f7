"""Which cells a results folder should hold: by the suite in its provenance, its table of examples, and its own rows."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.errors import HarnessError
from harness.planning.grid import cells_of
from harness.records import Cell
from harness.reports.load import Results
from harness.reports.names import eps_text, is_missing
from harness.reports.tables.write import IDENTITY
from harness.spec import parse_eps, parse_spec
from harness.suites.entries import ExpectationEntry
from harness.suites.suite import Suite

KEYS = ("model", "poison", "poison_rate", "seed", "condition", "attack", "norm", "eps", "corruption", "severity")
"""Columns that tell the cells of one suite apart."""

Key = tuple[object, ...]
Fields = Mapping[Any, Any]


def suite_of(results: Results) -> Suite:
    """Returns the suite that a run recorded in its provenance, with its models in the order of the table cells.csv.

    Raises:
        HarnessError: if it cannot be read again: a file that it names is gone, or a model was handed over in memory.
    """
    fields = dict(results.provenance["suite"])
    order = list(dict.fromkeys(results.cells["model"]))
    models = fields.get("models")
    if isinstance(models, dict):  # the file is sorted by name, but the first model crafts poisons
        fields["models"] = {
            label: models[label] for label in sorted(models, key=lambda it: order.index(it) if it in order else -1)
        }
    return parse_spec(Suite, fields, where=str(results.folder / "provenance.json"))


class Identities:
    """The cells that the rows of cells.csv stand for, without trust in any one row.

    Args:
        results: The results folder.
    """

    def __init__(self, results: Results) -> None:
        """See the class."""
        self.suite, self.grid, self.obstacle = _suite(results)
        self.rows = results.cells.to_dict("records")
        own = {str(row["digest"]) for row in self.rows}
        self.of_samples = _of_samples(results)
        self._unclaimed = {key_of(fields): digest for digest, fields in self.of_samples.items() if digest not in own}

    @property
    def expectations(self) -> tuple[ExpectationEntry, ...] | None:
        """The suite's expectations; None where it cannot be read."""
        return None if self.suite is None else tuple(self.suite.expectations)

    def digest(self, row: Fields) -> str:
        """Returns the digest of a row: that of the examples of the same model and condition, where the row's own has none."""
        written = str(row["digest"])
        return written if written in self.of_samples else self._unclaimed.get(key_of(row), written)

    def cell(self, row: Fields) -> Cell:
        """Returns the cell of a row: as the suite has it, else as its examples and the row have it.

        Raises:
            HarnessError: if a field of it is none that a run writes.
        """
        fields = {**row, **self.of_samples.get(self.digest(row), {})}
        for key in (key_of(fields), key_of(row)):
            if key in self.grid:
                return self.grid[key]
        return _cell_of(fields)

    @property
    def missing(self) -> list[Cell]:
        """The cells of the suite that no row stands for."""
        found = {key_of(cell_keys(self.cell(row))) for row in self.rows}
        return [cell for key, cell in self.grid.items() if key not in found]


def key_of(fields: Fields) -> Key:
    """Returns what tells a cell apart; a missing value is None."""
    return tuple(_plain(fields.get(name)) for name in KEYS)


def cell_keys(cell: Cell) -> dict[str, object]:
    """Returns the fields of a cell that `key_of` looks at, the budget as a number."""
    return {name: getattr(cell, name) for name in KEYS} | {"eps": None if cell.eps is None else float(cell.eps)}


def _plain(value: Any) -> object:
    if value is None or is_missing(value):
        return None
    return value if isinstance(value, str) else float(value)


def _suite(results: Results) -> tuple[Suite | None, dict[Key, Cell], str]:
    """Returns the suite and its cells by key, or why there is none."""
    try:
        suite = suite_of(results)
        return suite, {key_of(cell_keys(row.cell)): row.cell for row in cells_of(suite)}, ""
    except HarnessError as error:
        return None, {}, str(error).splitlines()[0]


def _of_samples(results: Results) -> dict[str, dict[str, Any]]:
    """Returns digest -> identity, as the table of examples has it."""
    if not results.has_samples:
        return {}
    names = [name for name in IDENTITY if name in results.samples]
    first = results.samples[names].drop_duplicates("digest")
    return {str(row["digest"]): {str(name): value for name, value in row.items()} for row in first.to_dict("records")}


def _cell_of(fields: Fields) -> Cell:
    known = {name: _value(name, fields.get(name)) for name in Cell.model_fields}
    return parse_spec(
        Cell, {name: value for name, value in known.items() if value is not None}, where="cells.csv", error=HarnessError
    )


def _value(name: str, value: Any) -> object:
    if value is None or pd.isna(value):
        return None
    if name == "eps":
        text = parse_eps(eps_text(float(value)))
        return text if float(text) == float(value) else parse_eps(float(value))
    return value.item() if hasattr(value, "item") else value
