"""The contents of the line charts, as values: matplotlib draws them for papers, the page as SVG."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.conditions import CLEAN
from harness.metrics import wilson_interval
from harness.reports.load import Results, once
from harness.reports.models import Condition, ModelView
from harness.reports.names import WORST_CASE, eps_text, is_missing, is_targeted, model_label, model_labels, slug
from harness.reports.rows import rows_of
from harness.reports.tables.corruptions import common_corruptions

Point = tuple[float, float]
ROC_GRID = np.linspace(0, 1, 51) ** 2
"""False positive rates at which curves are drawn: dense near 0, where they rise."""
ROC_PLACES = tuple(ROC_GRID.tolist())
CURVE = ("eps", "robust_accuracy", "robust_accuracy_low", "robust_accuracy_high", "n_examples")
"""Columns of sweep.csv that a robustness curve shows."""
MINIMUM_TICK_GAP = 0.045
"""Share of the axis below which two tick labels would touch."""


@dataclass(frozen=True)
class Series:
    """One line. The optional sequences have an entry a point."""

    label: str
    colour: int
    """Place in the palette; the same model has the same colour in every chart."""
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    """Lower ends of the 95 % intervals."""
    high: tuple[float, ...] = ()
    """Upper ends of the 95 % intervals."""
    n: tuple[int, ...] = ()
    """Numbers of examples."""
    notes: tuple[str, ...] = ()
    """Names of the points, where their places on the axis are not enough."""
    weight: str = "line"
    """line: with a marker at each point; plain: without; faint: a background line."""


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis."""

    name: str
    """Name of the file, without its ending."""
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_names: tuple[tuple[float, str], ...]
    """Positions on the axis, rising, with their names."""
    y_range: Point = (0.0, 1.0)
    of: str = ""
    """The attack whose robustness curve it is."""
    second_axis: tuple[float, str] | None = None
    """Factor and label of a second scale of the same axis."""

    @property
    def x_ticks(self) -> tuple[tuple[float, str], ...]:
        """The positions whose names do not touch the next one's."""
        span = self.x_names[-1][0] - self.x_names[0][0] or 1
        kept: list[tuple[float, str]] = []
        for position, text in reversed(self.x_names):
            if not kept or (kept[-1][0] - position) / span >= MINIMUM_TICK_GAP:
                kept.append((position, text))
        return tuple(reversed(kept))


def value_text(chart: Chart, series: Series, place: int) -> str:
    """Returns a value with its interval: rates in per cent, other quantities as they are."""
    if chart.y_range != (0.0, 1.0):
        return f"{series.y[place]:.4g}"
    text = f"{100 * series.y[place]:.1f} %"
    return f"{text} ({100 * series.low[place]:.1f}–{100 * series.high[place]:.1f})" if series.low else text


@once
def palette_of(results: Results) -> dict[str, int]:
    """Returns model label -> place in the palette, in the order of the grid."""
    return {label: place for place, label in enumerate(dict.fromkeys(model_labels(results.cells)))}


def attack_title(attack: str) -> str:
    """Returns the name of an attack in a heading."""
    return "Worst case over attacks" if attack == WORST_CASE else attack


@once
def robustness_charts(results: Results) -> list[Chart]:
    """Returns robust accuracy against the budget: the worst case over attacks first, then attack by attack."""
    sweep, palette, at_zero = results.sweep, palette_of(results), _clean_intervals(results)
    norms = list(sweep["norm"].dropna().unique())
    order = [WORST_CASE, *(attack for attack in sweep["attack"].unique() if attack != WORST_CASE)]
    charts = []
    for norm in norms:
        for attack in order:
            rows = sweep[(sweep["norm"] == norm) & (sweep["attack"] == attack)]
            if len(rows):
                suffix = "" if len(norms) == 1 else f"__{norm}"
                name = f"robust_accuracy__{slug(attack)}{suffix}"
                charts.append(_robustness_chart(rows, str(norm), palette, at_zero, name=name))
    return charts


def _clean_intervals(results: Results) -> dict[str, Point]:
    """Returns the interval of clean accuracy of each model, as cells.csv has it."""
    clean = results.cells[(results.cells["condition"] == CLEAN) & results.cells["accuracy"].notna()]
    return {model_label(row): (float(row["accuracy_low"]), float(row["accuracy_high"])) for row in rows_of(clean)}


def _robustness_chart(
    rows: pd.DataFrame, norm: str, palette: dict[str, int], clean_intervals: Mapping[str, Point], *, name: str
) -> Chart:
    series, of_model = [], dict[str, list[dict[Any, Any]]]()
    for model, row in zip(model_labels(rows), rows_of(rows), strict=True):
        of_model.setdefault(model, []).append(row)
    for model, own in of_model.items():
        points = sorted(own, key=lambda row: float(row["eps"]))
        eps, robust, low, high, n = ([row[name] for row in points] for name in CURVE)
        clean = float(points[0]["clean_accuracy"])
        ends = clean_intervals.get(model) or wilson_interval(round(clean * n[0]), n[0])
        series.append(
            Series(
                label=model,
                colour=palette[model],
                x=(0.0, *eps),
                y=(clean, *robust),
                low=(ends[0], *low),
                high=(ends[1], *high),
                notes=("not attacked", *(f"eps {eps_text(it)} = {it:.4g}" for it in eps)),
                n=(n[0], *n),
            )
        )
    first = rows.iloc[0].to_dict()
    target = f" towards {first['target_class']}" if is_targeted(first) else ""
    names, label, second_axis = _eps_axis(sorted(rows["eps"].unique()), norm)
    title = f"{attack_title(str(first['attack']))}{target}, {norm}"
    y_label = "robust accuracy against this target" if target else "robust accuracy"
    return Chart(name, title, label, y_label, tuple(series), names, of=str(first["attack"]), second_axis=second_axis)


def _eps_axis(budgets: Sequence[float], norm: str) -> tuple[tuple[tuple[float, str], ...], str, tuple[float, str] | None]:
    """Returns names, label and second scale: Linf budgets are read in 255ths and in decimals, others in decimals."""
    in_255ths = norm == "Linf" and any(eps_text(eps).endswith("/255") for eps in budgets)
    scale = 255 if in_255ths else 1
    names = ((0.0, "0"), *((float(eps), f"{round(eps * scale, 3):g}") for eps in budgets))
    labels = ("eps in 255ths of the pixel range", "eps in units of the pixel range")
    if norm != "Linf":
        return names, f"eps ({norm}, pixels in [0,1])", None
    return (names, labels[0], (1.0, labels[1])) if in_255ths else (names, labels[1], (255.0, labels[0]))


@once
def corruption_charts(results: Results) -> list[Chart]:
    """Returns accuracy against severity: the mean over common corruptions first, then corruption by corruption."""
    rows = results.cells[(results.cells["condition"] == "corruption") & results.cells["accuracy"].notna()]
    if rows.empty:
        return []
    palette, rows = palette_of(results), rows.assign(label=model_labels(rows))
    charts = []
    common = common_corruptions(rows)
    grouped = common.groupby(["label", "severity"], sort=False)["accuracy"]
    means = grouped.mean()[grouped.size() == common["corruption"].nunique()].reset_index()
    if len(means):  # corruptions without a severity in common have no mean
        charts.append(_corruption_chart(means, palette, name="corruption__mean", title="Mean over common corruptions"))
    for corruption, group in rows.groupby("corruption", sort=False):
        charts.append(_corruption_chart(group, palette, name=f"corruption__{slug(str(corruption))}", title=str(corruption)))
    return charts


def _corruption_chart(rows: pd.DataFrame, palette: dict[str, int], *, name: str, title: str) -> Chart:
    series = []
    for label, group in rows.groupby("label", sort=False):
        ordered = group.sort_values("severity")
        low, high = (tuple(ordered.get(f"accuracy_{end}", ())) for end in ("low", "high"))
        n = tuple(ordered.get("n_examples", ()))
        x, y = tuple(float(severity) for severity in ordered["severity"]), tuple(ordered["accuracy"])
        series.append(Series(str(label), palette[str(label)], x, y, low, high, n))
    names = tuple((float(severity), str(severity)) for severity in sorted(rows["severity"].unique()))
    return Chart(name, title, "severity", "accuracy", tuple(series), names)


@once
def history_charts(results: Results, model: str) -> list[Chart]:
    """Returns accuracy and loss of one model over the epochs of its training."""
    rows = _histories(results).get(model, [])
    quantities = {"accuracy": (0.0, 1.0), "loss": None}
    return [
        _history_chart(rows, columns, model=model, quantity=quantity, y_range=y_range)
        for quantity, y_range in quantities.items()
        if (columns := [name for name in map(str, results.history) if quantity in name and any(_known(rows, name))])
    ]


@once
def _histories(results: Results) -> dict[str, list[dict[Any, Any]]]:
    """Returns the epochs of each model, in their order."""
    history, found = results.history, dict[str, list[dict[Any, Any]]]()
    labels = model_labels(history) if "poison" in history else history["model"]  # as `rows_of_model`
    for label, row in zip(labels, rows_of(history), strict=True):
        found.setdefault(str(label), []).append(row)
    return {label: sorted(rows, key=lambda row: int(row["epoch"])) for label, rows in found.items()}


def _known(rows: Sequence[Mapping[Any, Any]], name: str) -> Iterator[Mapping[Any, Any]]:
    return (row for row in rows if not is_missing(row[name]))


def _history_chart(
    rows: Sequence[Mapping[Any, Any]], columns: list[str], *, model: str, quantity: str, y_range: Point | None
) -> Chart:
    series = []
    for colour, name in enumerate(columns):
        points = [(float(row["epoch"]), row[name]) for row in _known(rows, name)]
        label = name.replace("_", " ").removesuffix(f" {quantity}") or quantity
        series.append(Series(label, colour, tuple(x for x, _ in points), tuple(y for _, y in points)))
    epochs = tuple((float(row["epoch"]), str(row["epoch"])) for row in rows)
    finite = [float(y) for line in series for y in line.y if math.isfinite(y)]
    y_range = y_range or (0.0, 1.05 * max(finite) if finite else 1.0)
    return Chart(f"history__{slug(model)}", f"{model}: {quantity}", "epoch", quantity, tuple(series), epochs, y_range)


@once
def roc_chart(results: Results, view: ModelView) -> Chart | None:
    """Returns the one-vs-rest ROC curves of one model: bold the mean over classes, faint each class."""
    series = [line for colour, condition in enumerate(view.conditions) for line in _roc_series(results, condition, colour)]
    if not series:
        return None
    names = tuple((tick / 5, f"{tick / 5:g}") for tick in range(6))
    ordered = tuple(sorted(series, key=lambda line: line.weight != "faint"))
    title = f"{view.label}: each class against the rest"
    return Chart(f"roc__{slug(view.label)}", title, "false positive rate", "true positive rate", ordered, names)


def _roc_series(results: Results, condition: Condition, colour: int) -> Iterator[Series]:
    if not (results.folder / "roc").is_dir():  # left out of a copy for reading
        return
    points = results.matrix("roc", condition.file)
    of_class, names = points["class"].factorize()  # faster than groupby, which makes a table of each class
    places, rates = points["false_positive_rate"].to_numpy(float), points["true_positive_rate"].to_numpy(float)
    curves = []
    for number, name in enumerate(names):
        own = of_class == number
        curve = np.interp(ROC_GRID, places[own], rates[own])
        curve[0] = 0.0
        curves.append(curve)
        yield Series(f"{condition.label}, {name}", colour, ROC_PLACES, tuple(curve.tolist()), weight="faint")
    if curves:
        label = f"{condition.label}, mean (AUC {condition.auc:.3f})"
        yield Series(label, colour, ROC_PLACES, tuple(np.mean(curves, axis=0).tolist()), weight="plain")
