"""The rows of two runs that are about the same model, condition and examples."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.metrics import Flags
from harness.reports.comparison.settings import changed_attack, changed_model
from harness.reports.comparison.side import HASH, NAME, Key, Row, Side, right
from harness.reports.names import condition_label, is_missing, model_label


@dataclass(frozen=True)
class Joined:
    """A row of either run with its counterpart, on the examples that both were scored on."""

    key: Key
    """Model and condition, under the names of run B."""
    row_a: Row
    row_b: Row
    samples_a: pd.DataFrame
    """The common examples (n,), rows of samples.parquet, in the order of run A."""
    samples_b: pd.DataFrame
    """The same examples in the same order."""
    only_a: int
    """Examples that only A has."""
    only_b: int

    @property
    def right_a(self) -> Flags:
        """(n,) on which of the common examples model A is right."""
        return right(self.samples_a, self.row_a)

    @property
    def right_b(self) -> Flags:
        """(n,) the same of model B."""
        return right(self.samples_b, self.row_b)

    @property
    def model(self) -> str:
        """The model's name; both where they differ."""
        one, other = model_label(self.row_a), model_label(self.row_b)
        return one if one == other else f"{one} -> {other}"

    @property
    def condition(self) -> str:
        """The condition's name, with the norm of an attack's budget."""
        return named_condition(self.row_a)

    @property
    def changed(self) -> str:
        """In what the trainings differ, as far as the tables say."""
        return changed_model(self.row_a, self.row_b)


class Apart(NamedTuple):
    """A row of either run that has no counterpart, or none that it can be compared with."""

    model: str
    condition: str
    reason: str


def named_condition(row: Row) -> str:
    """Returns the name of a condition, with the norm of an attack's budget, e.g. "pgd 8/255 Linf"."""
    norm = "" if is_missing(row["norm"]) else f" {row['norm']}"
    return f"{condition_label(row)}{norm}"


def joined_rows(a: Side, b: Side) -> Iterator[Joined | Apart]:
    """Yields each row of either run: with its counterpart, or why it has none. Those of A come first, in its order."""
    by = HASH if a.has_hashes and b.has_hashes else NAME
    for key, row in a.rows.items():
        if key not in b.rows:
            yield Apart(model_label(row), named_condition(row), "only in A")
        else:
            yield _joined(a, b, key, by)
    for key, row in b.rows.items():
        if key not in a.rows:
            yield Apart(model_label(row), named_condition(row), "only in B")


def _joined(a: Side, b: Side, key: Key, by: str) -> Joined | Apart:
    row_a, row_b = a.rows[key], b.rows[key]
    apart = Apart(model_label(row_a), named_condition(row_a), "")
    samples_a, samples_b = a.samples(row_a), b.samples(row_b)
    if samples_a is None or samples_b is None:
        lost = [(name, row) for name, row, found in (("A", row_a, samples_a), ("B", row_b, samples_b)) if found is None]
        return apart._replace(reason="; ".join(f"no number in {name}: {_why(row)}" for name, row in lost))
    if changes := changed_attack(a, row_a, b, row_b):
        return apart._replace(reason=f"another attack: {changes}")
    keys_a, keys_b = a.keys(samples_a, by), b.keys(samples_b, by)
    places: NDArray[np.intp] = keys_b.get_indexer(keys_a)
    common = places >= 0
    if not common.any():
        return apart._replace(reason="no example in common")
    return Joined(
        key,
        row_a,
        row_b,
        samples_a[common],
        samples_b.iloc[places[common]],
        only_a=int((~common).sum()),
        only_b=len(keys_b) - int(common.sum()),
    )


def _why(row: Row) -> str:
    reason = "" if is_missing(row["reason"]) else f": {row['reason']}"
    return f"{str(row['status']).replace('_', ' ')}{reason}"
