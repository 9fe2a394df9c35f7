"""The models that the figures and the page of a run show: all of them, or of very many those that lead."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from harness.reports.load import Results, once
from harness.reports.names import model_labels

MOST_MODELS = 40
"""Models with a section, lines in the charts and figures of their own; a page of 1,000 opens nowhere, its figures take hours."""


@once
def leading(results: Results) -> Results:
    """Returns the results of the models that are shown: all, or of more than `MOST_MODELS` those that lead the leaderboard."""
    labels = dict.fromkeys(model_labels(results.cells))
    if len(labels) <= MOST_MODELS:
        return results
    ordered = list(dict.fromkeys([*model_labels(results.leaderboard), *labels]))
    return ResultsOfModels(results.folder, all_models=results, labels=frozenset(ordered[:MOST_MODELS]))


@dataclass(frozen=True, kw_only=True)
class ResultsOfModels(Results):
    """The tables of a results folder with the rows of some models; leaderboard, requirements and provenance are whole."""

    all_models: Results
    labels: frozenset[str]
    """The models by their names among poisoned and clean ones."""

    @property
    def whole(self) -> Results:
        """See `Results.whole`."""
        return self.all_models

    @cached_property
    def cells(self) -> pd.DataFrame:
        """See `Results.cells`."""
        return self._own(self.all_models.cells)

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """See `Results.sweep`."""
        return self._own(self.all_models.sweep)

    @cached_property
    def before_after(self) -> pd.DataFrame:
        """See `Results.before_after`."""
        return self._own(self.all_models.before_after)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """See `Results.samples`; whole, as its rows are looked up by digest."""
        return self.all_models.samples

    @cached_property
    def per_class(self) -> pd.DataFrame:
        """See `Results.per_class`; whole, as its rows are looked up by digest."""
        return self.all_models.per_class

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """See `Results.leaderboard`."""
        return self.all_models.leaderboard

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """See `Results.provenance`."""
        return self.all_models.provenance

    @cached_property
    def history(self) -> pd.DataFrame:
        """See `Results.history`."""
        return self._own(self.all_models.history)

    @cached_property
    def transfer(self) -> pd.DataFrame:
        """See `Results.transfer`."""
        table = self.all_models.transfer
        return table if table.empty else table[table["source"].isin(self.labels) & table["target"].isin(self.labels)]

    def _optional(self, name: str) -> pd.DataFrame:
        return self._own(super()._optional(name))

    def _own(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns the rows of these models; a table without models as it is."""
        if table.empty or "model" not in table:
            return table
        named = model_labels(table) if "poison" in table else table["model"]  # as `rows_of_model`
        return table[named.isin(self.labels)]
