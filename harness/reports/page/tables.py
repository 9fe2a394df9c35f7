"""The tables of the page, as values: text, order and emphasis of each entry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.conditions import condition_kind
from harness.records import Status
from harness.reports.figures.charts import Chart, value_text
from harness.reports.load import Results
from harness.reports.names import POISONED, condition_label, eps_text, is_missing, model_label
from harness.reports.rows import rows_of
from harness.reports.tables.ranking import NO_EXAMPLES
from harness.reports.tables.scores import SCORES

SCORE_NAMES = dict(zip(SCORES, ("accuracy", "precision", "recall", "F1", "ROC AUC"), strict=True))
MISSING = "–"
OPTIONAL = {
    "robust_accuracy_floor": "Floor by the audit",
    "mean_corruption_accuracy": "Mean corruption accuracy",
    "backdoor_success_rate": "Backdoor success",
}
"""Columns of the leaderboard that are shown where a model has a number."""
MOST_ROWS = 10_000
"""Rows of a table, or of several alike, that the page shows; a browser takes seconds to open so many."""
SHORT_DIGEST = 12
"""Digits of a digest that a row shows, and that a link to it has."""


@dataclass(frozen=True)
class PageEntry:
    """One entry of a table."""

    text: str
    detail: str = ""
    """Small text below the text."""
    order: float | str = ""
    """What the column is sorted by; the text where it is empty."""
    share: float | None = None
    """A rate that is drawn as a bar behind the entry."""
    badge: str = ""
    """Style of a badge: pass, suspect, invalid, done, cached, skipped, failed, not_run."""
    mark: str = ""
    """A word behind the text, as a badge of warning."""
    link: str = ""
    """Id of the part of the page that the text leads to."""


@dataclass(frozen=True)
class PageTable:
    """A table of the page; its first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[PageEntry, ...], ...]
    numeric: frozenset[int] = frozenset()
    """Columns that are set flush right."""
    tools: str = ""
    """Id of a table that can be sorted and filtered, and whose columns can be chosen; empty for one that cannot."""
    hint: str = "pgd 8/255"
    """What one may filter by, as an example."""
    file: str = ""
    """File of the results folder that has all its numbers."""
    anchors: tuple[str, ...] = ()
    """Ids of the rows, to which links lead."""
    total: int = 0
    """Rows that there are, where the page shows the first of them only; 0 where it shows all."""


def rate(value: Any, low: Any = None, high: Any = None, *, bar: bool = False) -> PageEntry:
    """Returns a rate in per cent with its interval."""
    if is_missing(value):
        return PageEntry(MISSING, order=-1.0)
    detail = "" if is_missing(low) or is_missing(high) else f"{100 * low:.1f}–{100 * high:.1f}"
    return PageEntry(f"{100 * value:.1f} %", detail, order=float(value), share=float(value) if bar else None)


def number(value: Any, pattern: str = "{:,.0f}") -> PageEntry:
    """Returns a number in the given form."""
    return PageEntry(MISSING, order=-1.0) if is_missing(value) else PageEntry(pattern.format(value), order=float(value))


def text(value: Any, detail: Any = "") -> PageEntry:
    """Returns a text, or a dash where there is none."""
    return PageEntry(MISSING if is_missing(value) else str(value), "" if is_missing(detail) else str(detail))


def verdict(row: Mapping[Any, Any]) -> PageEntry:
    """Returns an attack check as a badge, with its reasons."""
    if is_missing(row["verdict"]):
        return PageEntry(MISSING)
    reasons = "" if is_missing(row["verdict_reasons"]) else str(row["verdict_reasons"])
    return PageEntry(str(row["verdict"]), reasons, badge=str(row["verdict"]).lower())


def leaderboard_table(results: Results) -> PageTable:
    """Returns the leaderboard: accuracy, robustness, cost and attack check of each model, contest by contest, best first."""
    return board_table(results.leaderboard)


def board_table(board: pd.DataFrame, *, file: str = "leaderboard.csv") -> PageTable:
    """Returns a leaderboard, of one run or of several.

    Args:
        board: The leaderboard.
        file: The file beside the page that has all its numbers.
    """
    budgets = {f"{row['norm']} eps {eps_text(row['eps'])}" for row in rows_of(board) if not is_missing(row["eps"])}
    at_budget = f"Robust accuracy, {budgets.pop()}" if len(budgets) == 1 else "Robust accuracy"
    board = board.assign(**{name: None for name in ("robust_accuracy_floor",) if name not in board})
    extra = [name for name in OPTIONAL if board[name].notna().any()]
    several = board["contest"].nunique() > 1
    rows = []
    for row in rows_of(board):
        entries = {
            "Model": _named(row),
            at_budget: rate(row["robust_accuracy"], row["robust_accuracy_low"], row["robust_accuracy_high"], bar=True),
            "Attack check": verdict(row),
            "Clean accuracy": rate(row["clean_accuracy"], row["clean_accuracy_low"], row["clean_accuracy_high"], bar=True),
            "Mean over budgets": rate(row["mean_robust_accuracy"]),
            "Ranks possible": text(row["rank_range"]),
            "Ahead of the next": _ahead(row),
            "Worst class": _worst_class(row),
            **{OPTIONAL[name]: rate(row[name]) for name in extra},
            "Strongest attack": text(row["strongest_attack"]),
            **({"Contest": number(row["contest"]), "Attacks not met": text(row["attacks_not_met"])} if several else {}),
            "Passes an example": _passes(row),
            "Attack seconds": number(row["attack_seconds"], "{:,.1f}"),
        }
        rows.append(entries)
    columns = tuple(rows[0]) if rows else ("Model",)
    texts = {"Model", "Worst class", "Strongest attack", "Attacks not met", "Attack check"}
    right = frozenset(place for place, name in enumerate(columns) if name not in texts)
    values = tuple(tuple(row.values()) for row in rows)
    caption, tools = "Models by robust accuracy", "table-leaderboard"
    return PageTable(caption, columns, values, right, tools=tools, hint="baseline", file=file)


def _ahead(row: Mapping[Any, Any]) -> PageEntry:
    """Returns by how many points a model is ahead of the next one, with the interval of the paired difference."""
    if is_missing(row["difference_to_next"]):
        return PageEntry(MISSING, order=-1.0)
    low, high = row["difference_to_next_low"], row["difference_to_next_high"]
    interval = "" if is_missing(low) else f"{100 * low:.1f} to {100 * high:.1f}"
    return PageEntry(f"{100 * row['difference_to_next']:.1f}", interval, order=float(row["difference_to_next"]))


def _worst_class(row: Mapping[Any, Any]) -> PageEntry:
    if is_missing(row["worst_class"]):
        return PageEntry(MISSING)
    recall, low, high = (100 * row[f"worst_class_recall{end}"] for end in ("", "_low", "_high"))
    detail = f"recall {recall:.1f} % ({low:.1f}–{high:.1f}) of {int(row['worst_class_n'])}"
    return PageEntry(str(row["worst_class"]), detail)


def _named(row: Mapping[Any, Any]) -> PageEntry:
    """Returns a model with its rank; a poisoned one wears a badge."""
    note = [] if is_missing(row["rank_note"]) else [it for it in str(row["rank_note"]).split("; ") if it != NO_EXAMPLES]
    detail = "; ".join([*([f"suite {row['suite']}"] if "suite" in row else []), f"{row['arch']}, {row['recipe']}", *note])
    return PageEntry(_ranked_label(row), detail, mark="" if is_missing(row["poison"]) else POISONED)


def _ranked_label(row: Mapping[Any, Any]) -> str:
    return model_label(row) if is_missing(row["rank"]) else f"{row['rank']}. {model_label(row)}"


def _passes(row: Mapping[Any, Any]) -> PageEntry:
    if is_missing(row["forwards_per_example"]):
        return PageEntry(MISSING, order=-1.0)
    forwards, backwards = row["forwards_per_example"], row["backwards_per_example"]
    return PageEntry(f"{forwards:,.0f} fwd", f"{backwards:,.0f} bwd", order=float(forwards))


def before_after_tables(results: Results) -> list[PageTable]:
    """Returns, for each attack, corruption and trigger, every score before and after it, and the change; strongest first."""
    rows = results.before_after
    named = rows_of(rows[["condition", "attack", "corruption"]])
    kinds = pd.Series([condition_kind(row["condition"]).label(row) for row in named], rows.index, dtype=object)
    groups = sorted(rows.groupby(kinds, sort=False), key=lambda item: item[1]["accuracy_after"].mean())
    most = MOST_ROWS if len(rows) <= MOST_ROWS else max(1, MOST_ROWS // len(groups))
    tables = []
    for kind, group in groups:
        entries = [
            (text(model_label(row)), _strength(row), *(_change(row, score) for score in SCORES))
            for row in rows_of(group.head(most))
        ]
        columns = ("Model", _strength_name(group), *(SCORE_NAMES[score].capitalize() for score in SCORES[:3]), "F1", "ROC AUC")
        caption, total = f"{kind}: before and after", _total(group, most)
        tables.append(PageTable(caption, columns, tuple(entries), frozenset(range(1, 7)), total=total))
    return tables


def _total(rows: pd.DataFrame, most: int) -> int:
    """Returns how many rows there are where the page shows the first `most` of them, 0 where it shows all."""
    return len(rows) if len(rows) > most else 0


def _strength_name(group: pd.DataFrame) -> str:
    return condition_kind(group["condition"].iloc[0]).strength_name


def _strength(row: Mapping[Any, Any]) -> PageEntry:
    strength = condition_kind(row["condition"]).strength
    if strength != "eps":
        return number(row[strength]) if strength == "severity" else rate(row[strength])
    if is_missing(row["eps"]):
        return PageEntry(MISSING)
    return PageEntry(eps_text(row["eps"]), str(row["norm"]), order=float(row["eps"]))


def _change(row: Mapping[Any, Any], score: str) -> PageEntry:
    before, after, difference = (row[f"{score}_{when}"] for when in ("before", "after", "difference"))
    if is_missing(difference):
        return PageEntry(MISSING)
    sign = "±" if round(100 * difference, 1) == 0 else "+" if difference > 0 else "−"
    return PageEntry(f"{100 * before:.1f} → {100 * after:.1f}", f"{sign}{abs(100 * difference):.1f}", order=float(after))


def numbers_table(chart: Chart) -> PageTable:
    """Returns the numbers behind a chart: one row a line, one column a position."""
    rows = []
    for series in chart.series:
        values = {x: value_text(chart, series, place) for place, x in enumerate(series.x)}
        rows.append((PageEntry(series.label), *(PageEntry(values.get(x, MISSING)) for x, _ in chart.x_names)))
    columns = ("", *(name for _, name in chart.x_names))
    return PageTable(
        f"{chart.title}: {chart.y_label} by {chart.x_label}", columns, tuple(rows), frozenset(range(1, len(columns)))
    )


def per_class_table(classes: pd.DataFrame, conditions: Sequence[str], *, number_of_model: int) -> PageTable:
    """Returns the examples of each class under the first condition; recall and precision, condition by condition."""
    entries = rows_of(classes[["class", "shown", "support", "recall", "precision"]])
    by_place = {(row["class"], row["shown"]): row for row in entries}
    support = {row["class"]: row["support"] for row in entries if row["shown"] == conditions[0]}
    rows = []
    for name, count in support.items():
        found = [by_place[name, condition] for condition in conditions]
        rows.append((text(name), number(count), *(entry for row in found for entry in _class_entries(row))))
    columns = ("Class", "Examples", *(f"{condition}: {score}" for condition in conditions for score in ("recall", "precision")))
    right, tools = frozenset(range(1, len(columns))), f"table-classes-{number_of_model}"
    return PageTable("Each class", columns, tuple(rows), right, tools=tools, hint="a class", file="per_class.csv")


def _class_entries(row: Mapping[Any, Any]) -> tuple[PageEntry, PageEntry]:
    return rate(row["recall"], bar=True), rate(row["precision"])


def cells_table(results: Results) -> PageTable:
    """Returns every cell of the grid with its numbers, or with the reason why it has none."""
    shown = results.cells.head(MOST_ROWS)
    digests = [str(digest)[:SHORT_DIGEST] for digest in shown["digest"]]
    rows = [
        (
            text(model_label(row), condition_label(row)),
            text(row["norm"]),
            _status(row),
            number(row["n_examples"]),
            rate(row["accuracy"], row["accuracy_low"], row["accuracy_high"]),
            rate(row["robust_accuracy"]),
            rate(row["attack_success_rate"]),
            rate(row["f1_macro"]),
            rate(row["roc_auc_macro"]),
            number(row["seconds"], "{:,.1f}"),
            verdict(row),
            PageEntry(digest, link=f"cell-{digest}"),
        )
        for row, digest in zip(rows_of(shown), digests, strict=True)
    ]
    scores = ("Accuracy", "Robust accuracy", "Attack success", "F1", "ROC AUC")
    columns = ("Model and condition", "Norm", "Status", "n", *scores, "Seconds", "Attack check", "Digest")
    anchors, right = tuple(f"cell-{digest}" for digest in digests), frozenset(range(3, 10))
    caption, tools, total = "All cells of the grid", "table-cells", _total(results.cells, MOST_ROWS)
    return PageTable(caption, columns, tuple(rows), right, tools=tools, file="cells.csv", anchors=anchors, total=total)


def _status(row: Mapping[Any, Any]) -> PageEntry:
    reason = "" if is_missing(row["reason"]) else str(row["reason"])
    return PageEntry(str(Status(row["status"])).replace("_", " "), reason, badge=str(row["status"]))


def stages_table(results: Results) -> PageTable | None:
    """Returns what each stage of each ensemble achieved and cost; None where no ensemble ran."""
    if results.stages.empty:
        return None
    rows = [
        (
            text(model_label(row), f"{row['attack']} {eps_text(row['eps'])}, {row['norm']}"),
            text(row["stage"]),
            number(row["attacked"]),
            number(row["adversarial"]),
            number(row["forwards"]),
            number(row["backwards"]),
            number(row["seconds"], "{:,.1f}"),
        )
        for row in rows_of(results.stages.head(MOST_ROWS))
    ]
    columns = ("Model and attack", "Stage", "Attacked", "Made adversarial", "Forward passes", "Backward passes", "Seconds")
    caption, tools, right, total = (
        "Stages of ensembles",
        "table-stages",
        frozenset(range(2, 7)),
        _total(results.stages, MOST_ROWS),
    )
    return PageTable(caption, columns, tuple(rows), right, tools=tools, hint="square", file="stages.csv", total=total)


def transfer_tables(results: Results) -> list[PageTable]:
    """Returns, for each attack and budget, the accuracy of every target on the adversarials made on every source."""
    rows = results.transfer
    if rows.empty:
        return []
    tables = []
    for _, group in rows.groupby(["attack", "norm", "eps"], sort=False):
        attack, norm, eps = group.iloc[0][["attack", "norm", "eps"]]
        matrix = group.pivot_table(index="source", columns="target", values="accuracy", sort=False)
        entries = [(text(source), *(rate(value, bar=True) for value in values)) for source, *values in matrix.itertuples()]
        columns = ("Made on", *(f"judged by {target}" for target in matrix.columns))
        tables.append(
            PageTable(f"{attack}, {norm} eps {eps_text(eps)}", columns, tuple(entries), frozenset(range(1, len(columns))))
        )
    return tables


def plain_table(table: pd.DataFrame, caption: str) -> PageTable:
    """Returns any table as it is; numbers with four significant digits."""
    columns = tuple(str(name).replace("_", " ") for name in table.columns)
    numeric = frozenset(place for place, name in enumerate(table.columns) if pd.api.types.is_numeric_dtype(table[name]))
    rows = [tuple(_plain(value) for value in row) for row in table.itertuples(index=False)]
    return PageTable(caption, columns, tuple(rows), numeric)


def _plain(value: Any) -> PageEntry:
    return text(value) if is_missing(value) or not isinstance(value, float) else number(value, "{:.4g}")
