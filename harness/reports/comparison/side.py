"""One of two runs that are compared: its rows by what they are, and its examples."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import HarnessError
from harness.metrics import Flags
from harness.reports.names import is_missing
from harness.reports.tables.keys import example_keys

if TYPE_CHECKING:
    from harness.reports.load import Results

HASH, NAME = "content_hash", "example_id"
MODEL_KEY = ("model", "poison", "poison_rate", "repetition")
CONDITION_KEY = ("condition", "attack", "target_class", "norm", "eps", "corruption", "severity")

OF_SWEEP = ("model", "poison", "poison_rate", "seed", "condition", "attack", "target_class", "norm")
"""Columns in which the budgets of one sweep agree."""

Key = tuple[Any, ...]
Row = Mapping[Any, Any]


class Side:
    """One of two runs."""

    def __init__(self, results: "Results", renamed: Mapping[str, str] | None = None) -> None:
        """Opens a run.

        Args:
            results: Its tables.
            renamed: Label of a model in this run -> its label in the other.

        Raises:
            HarnessError: if the run has no samples.parquet, or no such model.
        """
        self.results, self.folder = results, results.folder
        self.suite: Mapping[str, Any] = results.provenance.get("suite") or {}
        self._renamed = dict(renamed or {})
        known = list(results.cells["model"].unique())
        for label in self._renamed:
            if label not in known:
                raise HarnessError(f"--models: {self.folder}: expected one of {', '.join(map(str, known))}, got {label!r}")
        if not results.has_samples:
            raise HarnessError(
                f"{self.folder}: expected samples.parquet, which has the examples, found none; nothing to compare by"
            )
        self._keys: dict[tuple[bytes, str], pd.Index[str]] = {}

    @cached_property
    def rows(self) -> dict[Key, Row]:
        """The rows of cells.csv by model and condition; the models under the names of the other run.

        Where a model is renamed to the label that another one has here, the latter has no counterpart.
        """
        cells = self.results.cells.assign(eps=self.results.cells["eps"].astype(float).round(9))
        cells["model"] = cells["model"].map(self._name_in_other)
        trained = ["model", "poison", "poison_rate"]
        cells["repetition"] = cells.groupby(trained, dropna=False)["seed"].rank("dense").astype(int)
        found: dict[Key, Row] = {}
        for row, label in zip(cells.to_dict("records"), self.results.cells["model"], strict=True):
            found.setdefault(_parts(row, (*MODEL_KEY, *CONDITION_KEY)), {**row, "model": label})
        return found

    def _name_in_other(self, label: str) -> str:
        taken = label not in self._renamed and label in self._renamed.values()
        return f"{label} (only here)" if taken else self._renamed.get(label, label)

    @cached_property
    def _budgets(self) -> dict[Key, list[float]]:
        found: dict[Key, list[float]] = {}
        for row in self.rows.values():
            if not is_missing(row["accuracy"]) and not is_missing(row["eps"]):
                found.setdefault(_parts(row, OF_SWEEP), []).append(float(row["eps"]))
        return found

    def budgets(self, row: Row) -> list[float]:
        """Returns the budgets with numbers of the sweep that a row is of, rising."""
        return sorted(self._budgets.get(_parts(row, OF_SWEEP), []))

    @cached_property
    def class_names(self) -> Sequence[str]:
        """The names of the classes."""
        return list(self.results.provenance.get("class_names") or ())

    @cached_property
    def has_hashes(self) -> bool:
        """Whether the examples have content hashes; those of an older run may have names alone."""
        return HASH in self.results.samples and bool(self.results.samples[HASH].notna().all())

    def samples(self, row: Row) -> pd.DataFrame | None:
        """Returns the examples of a row; None where it has no numbers."""
        found = self.results.samples_of(str(row["digest"]))
        return None if found.empty else found

    def keys(self, samples: pd.DataFrame, by: str) -> "pd.Index[str]":
        """Returns the keys of the examples of a cell; most cells have the same ones, so each list is made once."""
        place = (pd.util.hash_pandas_object(samples[[by, "label"]], index=False).to_numpy().tobytes(), by)
        if place not in self._keys:
            self._keys[place] = pd.Index(example_keys(samples, self.class_names, by=by))
        return self._keys[place]

    def class_of(self, indices: Iterable[int]) -> list[str]:
        """Returns the names of classes."""
        return [self.class_names[index] if index < len(self.class_names) else str(index) for index in indices]


def _parts(row: Row, names: Iterable[str]) -> Key:
    return tuple(None if is_missing(row[name]) else row[name] for name in names)


def right(samples: pd.DataFrame, row: Row) -> Flags:
    """Returns on which examples (N,) a model is right: under an attack, those that are correct when clean and not adversarial."""
    if row["condition"] == "attack":
        return samples["clean_correct"].to_numpy(bool) & ~samples["fooled"].to_numpy(bool)
    return samples["correct"].to_numpy(bool)
