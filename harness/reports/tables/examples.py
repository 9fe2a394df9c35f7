"""The examples behind a model's row of the leaderboard: which they are, and on which of them it is right."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from harness.conditions import ATTACK, CLEAN, names_where
from harness.metrics import Flags
from harness.reports.names import OF_DATA_SET
from harness.reports.tables.keys import example_keys
from harness.reports.tables.sweep import members_of_worst_case


def worst_case_rows(cells: pd.DataFrame, *, norm: str | None, eps: float | None) -> pd.DataFrame:
    """Returns the rows of a model that its worst case at a budget is taken over; none where no untargeted attack ran there.

    Args:
        cells: Rows of cells.csv, of one model.
        norm: The norm.
        eps: The budget.
    """
    attacked = cells[(cells["condition"] == ATTACK) & cells["robust_accuracy"].notna() & (cells["norm"] == norm)]
    untargeted = attacked.loc[~attacked["targeted"].fillna(value=False).astype(bool), "eps"]
    return members_of_worst_case(attacked, eps) if eps is not None and (untargeted == eps).any() else attacked.iloc[:0]


class Examples:
    """The examples of a run, in an order that another run of the same examples has too."""

    def __init__(self, cells: pd.DataFrame, samples: pd.DataFrame | None, provenance: Mapping[str, Any]) -> None:
        """Takes the tables of a run.

        Args:
            cells: The table cells.csv.
            samples: The table samples.parquet; None where it was left out of a copy.
            provenance: What provenance.json holds.
        """
        self._cells, self._samples, self._provenance = cells, samples, provenance

    @cached_property
    def _own(self) -> pd.DataFrame:
        """The rows of cells.csv with numbers that were scored on the run's examples."""
        elsewhere = names_where(lambda kind: kind.own_examples)
        return self._cells[self._cells["accuracy"].notna() & ~self._cells["condition"].isin(elsewhere)]

    @cached_property
    def _keys(self) -> "pd.Series[str] | None":
        if self._samples is None or self._own.empty:
            return None
        first = self._samples[self._samples["digest"] == self._own["digest"].iloc[0]]
        return example_keys(first, self._provenance.get("class_names") or ()).reset_index(drop=True)

    @cached_property
    def _order(self) -> "np.ndarray[Any, np.dtype[np.intp]]":
        return np.argsort(self._keys.to_numpy(str), kind="stable") if self._keys is not None else np.zeros(0, np.intp)

    @cached_property
    def digest(self) -> str | None:
        """Says which examples they are: a hash over the content and the label of each.

        Where the examples are not stored, it is one over the content of the whole data set, the number of the examples and how
        they were drawn, and begins with `OF_DATA_SET`; None where that is not recorded either.
        """
        if self._keys is not None:
            return _sha256(sorted(self._keys))
        known, suite = self._provenance.get("content_hash"), self._provenance.get("suite") or {}
        evaluation = suite.get("evaluation") or {}
        drawn = (evaluation.get("split"), evaluation.get("limit"), suite.get("seed"), self._provenance.get("n_examples"))
        return None if known is None else OF_DATA_SET + _sha256([str(known), *map(str, drawn)])

    def right(self, cells: pd.DataFrame, members: pd.DataFrame) -> Flags | None:
        """Returns on which examples (N,) a model is right, in the order of their keys; None where that is not known.

        Args:
            cells: The model's rows of cells.csv.
            members: Those that its worst case is taken over; where there are none, its answers to clean images count.
        """
        if self._keys is None:
            return None
        if members.empty:
            clean = cells.loc[(cells["condition"] == CLEAN) & cells["accuracy"].notna(), "digest"]
            flags = self._of_cells(self._correct, clean[:1])
        else:
            flags = self._of_cells(self._robust, members["digest"])
        if not flags or any(len(it) != len(self._keys) for it in flags):
            return None
        found: Flags = np.logical_and.reduce(flags)[self._order]
        return found

    @cached_property
    def _correct(self) -> Flags:
        return self._flags("correct")

    @cached_property
    def _robust(self) -> Flags:
        return self._flags("clean_correct") & ~self._flags("fooled")

    def _flags(self, name: str) -> Flags:
        return np.zeros(0, bool) if self._samples is None else self._samples[name].to_numpy(bool)

    def _of_cells(self, flags: Flags, digests: Iterable[object]) -> list[Flags]:
        """Returns the flags of the examples of each cell, from those of all rows."""
        return [flags[self._places[str(digest)]] for digest in digests if str(digest) in self._places]

    @cached_property
    def _places(self) -> "dict[str, np.ndarray[Any, np.dtype[np.intp]]]":
        """Digest of a cell -> the places of its rows."""
        if self._samples is None:
            return {}
        found = self._samples.groupby("digest", sort=False, observed=True).indices
        return {str(digest): np.asarray(places) for digest, places in found.items()}


def _sha256(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
