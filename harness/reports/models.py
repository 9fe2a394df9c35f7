"""One model at a time: the conditions that its page and its figures show, and its scores under each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from harness.conditions import names_where
from harness.reports.load import Results, once
from harness.reports.names import IN_NAMES, condition_label, is_missing, model_labels, unique_cell_names
from harness.reports.rows import rows_of
from harness.reports.tables.reference import reference

MOST_ATTACKS = 2
"""Largest number of attacks shown of a model; where there are more, the strongest are."""


class Condition(NamedTuple):
    """A condition that a model's page shows."""

    label: str
    file: str
    """Name of its files in confusion/ and roc/."""
    auc: float
    """Mean area under the one-vs-rest ROC curves."""


@dataclass(frozen=True, eq=False)
class ModelView:
    """A model with the conditions that its page shows: clean, triggered, folders, and attacks at the reference budget."""

    label: str
    """The model's label in the suite, with its poison."""
    cells: pd.DataFrame
    """Its rows of cells.csv."""
    conditions: tuple[Condition, ...]
    classes: pd.DataFrame
    """The rows of per_class.csv under these conditions, with the condition's name in the column `shown`."""

    @property
    def recall(self) -> pd.DataFrame:
        """Recall, one row a class and one column a condition, in the order of the class names."""
        names = pd.Index(self.classes["class"].unique(), name="class")
        of_condition = {shown: rows.set_index("class")["recall"] for shown, rows in self.classes.groupby("shown", sort=False)}
        return pd.DataFrame({it.label: of_condition[it.label].reindex(names) for it in self.conditions}, index=names)


@once
def model_views(results: Results) -> tuple[ModelView, ...]:
    """Returns the models of a run, in the order of the grid."""
    cells = results.cells
    with_numbers = results.whole.cells[results.whole.cells["accuracy"].notna()]
    names = unique_cell_names(rows_of(with_numbers[[name for name in IN_NAMES if name in with_numbers]]))
    norm, eps = reference(results.whole.sweep, results.provenance.get("suite") or {})
    groups = cells.groupby(model_labels(cells), sort=False)
    return tuple(_view(results, str(label), group, names, norm=norm, eps=eps) for label, group in groups)


def _view(
    results: Results, label: str, group: pd.DataFrame, names: Mapping[str, str], *, norm: str | None, eps: float | None
) -> ModelView:
    with_numbers = [row for row in rows_of(group) if not is_missing(row["accuracy"])]
    at_budget = [row for row in with_numbers if row["norm"] == norm and row["eps"] == eps]
    ordered = sorted(at_budget, key=lambda row: (is_missing(row["robust_accuracy"]), row["robust_accuracy"]))
    strongest = [row["digest"] for row in ordered[:MOST_ATTACKS]]
    always = names_where(lambda kind: kind.shown_of_model)
    rows = [row for row in with_numbers if row["condition"] in always or row["digest"] in strongest]
    shown = {str(row["digest"]): condition_label(row) for row in rows}
    classes = results.classes_of(shown)
    return ModelView(
        label=label,
        cells=group,
        conditions=tuple(Condition(shown[row["digest"]], names[row["digest"]], float(row["roc_auc_macro"])) for row in rows),
        classes=classes.assign(shown=classes["digest"].map(shown)),
    )
