"""The page's table of worst classes, and of the classes that they are taken for."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.conditions import ATTACK, CLEAN
from harness.metrics import wilson_interval
from harness.reports.load import Results
from harness.reports.models import ModelView, model_views
from harness.reports.names import model_label
from harness.reports.page.tables import PageEntry, PageTable, number, rate, text

MOST_MODELS = 3
"""Models of the leaderboard, from its top; poisoned models, which have no rank, only where no model has one."""
MOST_CLASSES = 3
"""Classes of a model under a condition."""
MOST_CONFUSIONS = 3
"""Classes that one class is taken for."""
COLUMNS = ("Model", "Images", "Class", "n", "Recall", "Taken for")


def worst_classes_table(results: Results) -> PageTable | None:
    """Returns the worst classes of the leading models, clean and under the strongest attack; None where no model has numbers."""
    views = {view.label: view for view in model_views(results) if len(view.classes)}
    board = results.leaderboard
    ranked = board[board["rank"].notna()]
    labels = [model_label(row) for row in (board if ranked.empty else ranked).to_dict("records")]
    leading = [views[label] for label in labels if label in views][:MOST_MODELS]
    rows = tuple(row for view in leading for row in _rows(results, view))
    caption, tools = "Worst classes", "table-worst-classes"
    return (
        PageTable(caption, COLUMNS, rows, frozenset({3, 4}), tools=tools, hint="a class", file="per_class.csv") if rows else None
    )


def _rows(results: Results, view: ModelView) -> Iterator[tuple[PageEntry, ...]]:
    files = {condition.label: condition.file for condition in view.conditions}
    for digest in _conditions(view):
        classes = view.classes[(view.classes["digest"] == digest) & (view.classes["support"] > 0)]
        if classes.empty:
            continue
        label = str(classes["shown"].iloc[0])
        matrix = results.matrix("confusion", files[label]).set_index("true_class")
        for row in classes.sort_values("recall", kind="stable").head(MOST_CLASSES).to_dict("records"):
            yield text(view.label), text(label), *_entries(row, matrix)


def _conditions(view: ModelView) -> Iterator[str]:
    """Yields the digests of the clean images, and of the strongest attack of those that are shown of a model."""
    shown = view.cells[view.cells["digest"].isin(view.classes["digest"])]
    yield from shown.loc[shown["condition"] == CLEAN, "digest"].head(1)
    yield from shown[shown["condition"] == ATTACK].nsmallest(1, "robust_accuracy")["digest"]


def _entries(row: Mapping[Any, Any], matrix: pd.DataFrame) -> tuple[PageEntry, ...]:
    n = int(row["support"])
    interval = wilson_interval(round(row["recall"] * n), n)
    return text(row["class"]), number(n), rate(row["recall"], *interval, bar=True), text(_taken_for(str(row["class"]), matrix))


def _taken_for(name: str, matrix: pd.DataFrame) -> str | None:
    """Returns the most frequent wrong predictions of a class with their counts; None without any."""
    counts = {str(other): int(count) for other, count in matrix.loc[name].to_dict().items() if count and other != name}
    largest = sorted(counts, key=lambda other: -counts[other])[:MOST_CONFUSIONS]
    return ", ".join(f"{other} ({counts[other]})" for other in largest) or None
