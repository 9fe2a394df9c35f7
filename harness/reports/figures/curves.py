"""The figures in curves/: PNG for slides, SVG and PDF for papers."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from harness.errors import first_line
from harness.metrics import Floats
from harness.reports.figures.charts import Chart, Series, corruption_charts, history_charts, robustness_charts, roc_chart
from harness.reports.figures.poison_charts import detector_charts, success_charts
from harness.reports.figures.saving import DPI, carries, save
from harness.reports.files import staged
from harness.reports.load import Results
from harness.reports.models import model_views
from harness.reports.names import slug
from harness.system.lazy import figures, matplotlib
from harness.system.messages import cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B5B5B")
"""Okabe and Ito's colours, which readers with any form of colour blindness can tell apart; without the yellow."""
MARKERS = "os^Dv"
"""Those of the page, in the same order."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 11,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8A8A8A",
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "savefig.dpi": DPI,
    "svg.hashsalt": "harness",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a class may be called "$5"
}
LARGEST_ANNOTATED = 12
"""Number of classes up to which a confusion matrix carries its counts."""
LETTER = 0.078
"""Width in inches of a letter of a tick label; margins are set, as searching for them takes as long as drawing."""
CROWD = 6
"""Most entries of a legend inside its chart; a longer one would hide the lines, and is drawn beside it."""
MOST_LETTERS = 40
"""Letters of a class name or label that a figure shows."""
CELL, LEAST_CELL = 0.24, 0.14
"""Width in inches of a cell of a confusion matrix, and the least one, at which the names of classes do not touch yet."""
ROOMY = 7.2
"""Width in inches up to which a confusion matrix grows at full width of its cells; beyond it they shrink."""
PIXELS_OF_CELL = 8
"""Of the image in SVG and PDF, which is enlarged by who shows it: more than one, as some soften the edges of pixels."""
FOLDER = "curves"
OWNED = {FOLDER: (".svg", ".pdf", ".png")}
"""The folder of the figures, and the forms that each is drawn in."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Planned:
    """A figure that is drawn only where its files do not show the same already."""

    name: str
    shows: str
    draw: Callable[[], Figure]

    @property
    def fingerprint(self) -> str:
        """What the files carry in their header: a hash of what they show and of what draws it."""
        return hashlib.sha256(f"{_what_draws()}\n{self.shows}".encode()).hexdigest()


@cache
def _what_draws() -> str:
    sources = (Path(__file__), Path(__file__).with_name("saving.py"))
    return "\n".join([version("matplotlib"), *(path.read_text() for path in sources)])


class Drawn(NamedTuple):
    """What became of the figures of a run."""

    files: list[Path]
    notes: list[str]
    """One sentence for each figure that could not be drawn."""


def draw_figures(results: Results) -> Drawn:
    """Draws the figures of a run into its folder curves/, and removes those of cells that are gone.

    A figure that cannot be drawn leaves a note: the numbers are in the tables, and a run is not lost for a picture.

    Raises:
        HarnessError: if a table is missing, or the folder cannot be written.
    """
    folder, planned = results.folder / FOLDER, list(_figures(results))
    notes: dict[str, str] = {}
    with staged(results.folder, owned=OWNED) as staging:
        (staging / FOLDER).mkdir()
        for figure in planned:
            files = [f"{figure.name}{ending}" for ending in OWNED[FOLDER]]
            if all(carries(folder / file, figure.fingerprint) for file in files):
                for file in files:
                    _keep(folder / file, staging / FOLDER / file)
            elif why := _save(figure, [staging / FOLDER / file for file in files]):
                notes[figure.name] = f"{FOLDER}/{figure.name} is not drawn: {why}"
                logger.warning("%s", notes[figure.name])
    drawn = [figure.name for figure in planned if figure.name not in notes]
    return Drawn(sorted(folder / f"{name}{ending}" for name in drawn for ending in OWNED[FOLDER]), list(notes.values()))


def _keep(path: Path, staged_path: Path) -> None:
    """Puts a file among those that are renewed, as it is: by a second name where the disk has such."""
    try:
        staged_path.hardlink_to(path)
    except OSError:
        shutil.copy2(path, staged_path)


def _save(figure: _Planned, paths: Sequence[Path]) -> str:
    """Writes the files of a figure; returns why, and writes none, where that is not possible."""
    try:
        with matplotlib.rc_context(STYLE):
            drawn = figure.draw()
            for path in paths:
                save(drawn, path, fingerprint=figure.fingerprint)
    except OSError:  # the folder, which the tables need too
        raise
    except Exception as error:  # matplotlib's layout, fonts and back ends raise whatever they meet
        for path in paths:
            path.unlink(missing_ok=True)
        return first_line(error)
    return ""


def _label(text: object) -> str:
    """Returns a class name or label as a figure shows it."""
    return cut(str(text), MOST_LETTERS)


def _figures(results: Results) -> Iterator[_Planned]:
    of_poisons = (*success_charts(results), *detector_charts(results))
    for chart in (*robustness_charts(results), *corruption_charts(results), *of_poisons):
        yield _Planned(chart.name, repr(chart), partial(_line_figure, [chart]))
    for view in model_views(results):
        if histories := history_charts(results, view.label):
            yield _Planned(histories[0].name, repr(histories), partial(_line_figure, histories))
        if roc := roc_chart(results, view):
            yield _Planned(roc.name, repr(roc), partial(_line_figure, [roc]))
        if view.conditions:
            counts = {row.label: results.matrix("confusion", row.file).set_index("true_class") for row in view.conditions}
            shows = "\n".join(f"{it}\n{[*table]}\n{[*table.index]}\n{table.to_numpy().tolist()}" for it, table in counts.items())
            yield _Planned(f"confusion__{slug(view.label)}", shows, partial(_confusion_figure, view.label, counts))
            recall = view.recall
            yield _Planned(f"per_class__{slug(view.label)}", recall.to_csv(), partial(_per_class_figure, view.label, recall))


def _line_figure(charts: Sequence[Chart]) -> Figure:
    beside = max(_legend_beside(chart) for chart in charts)
    figure: Figure = figures.Figure(figsize=(6.4 * len(charts) + beside, 4.2))
    _set_margins(figure, left=0.7, right=0.25 + beside, bottom=0.6, top=0.9 if charts[0].second_axis else 0.45)
    for axes, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
        _draw_chart(axes, chart)
    return figure


def _legend_beside(chart: Chart) -> float:
    """Returns the width in inches of a legend beside a chart, 0 where it fits inside."""
    labels = [_label(series.label) for series in chart.series if series.label]
    return 0.5 + LETTER * max(map(len, labels)) if len(labels) > CROWD else 0.0


def _set_margins(figure: Figure, *, left: float, right: float, bottom: float, top: float) -> None:
    """Sets the margins in inches."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)


def _draw_chart(axes: Axes, chart: Chart) -> None:
    for series in chart.series:
        _draw_series(axes, series)
    axes.set_title(chart.title, y=None if chart.second_axis else 1.0)  # a place that is given is not searched for
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.set_xticks([position for position, _ in chart.x_ticks], [text for _, text in chart.x_ticks])
    axes.set_ylim(chart.y_range[0], chart.y_range[1] + 0.02 * (chart.y_range[1] - chart.y_range[0]))
    if chart.second_axis is not None:
        factor, label = chart.second_axis
        top = axes.secondary_xaxis("top", functions=(lambda x: np.multiply(x, factor), lambda x: np.divide(x, factor)))
        top.set_xlabel(label, fontsize=8.5, color="#666666")
        top.tick_params(labelsize=8, colors="#666666", length=0)
        top.spines["top"].set_visible(False)
    beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
    axes.legend(fontsize=9, **(beside if _legend_beside(chart) else {"loc": "best"}))


def _draw_series(axes: Axes, series: Series) -> None:
    colour, turn = PALETTE[series.colour % len(PALETTE)], series.colour // len(PALETTE)
    if series.weight == "faint":
        axes.plot(series.x, series.y, color=colour, alpha=0.25, linewidth=0.9)
        return
    marker = MARKERS[series.colour % len(MARKERS)] if series.weight == "line" else None
    dashes = DASHES[turn % len(DASHES)]
    axes.plot(
        series.x,
        series.y,
        color=colour,
        linestyle=dashes,
        marker=marker,
        markersize=5.5,
        linewidth=2,
        label=_label(series.label),
        clip_on=False,
    )
    if series.low:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.14, linewidth=0)


def _confusion_figure(model: str, counts: Mapping[str, pd.DataFrame]) -> Figure:
    """Draws the shares of predicted classes in each true class, condition by condition."""
    names = [_label(name) for name in next(iter(counts.values())).index]
    label = 0.2 + LETTER * max(map(len, names))
    side = max(2.4, min(CELL * len(names), max(ROOMY, LEAST_CELL * len(names))))
    figure: Figure = figures.Figure(figsize=(label + 0.35 + (side + 0.2) * len(counts), label + 1.0 + side))
    _set_margins(figure, left=label + 0.25, right=0.1, bottom=label + 0.25, top=0.65)
    figure.suptitle(f"{model}: predicted classes, darker where a larger share of the true class", x=0.01, y=0.98, ha="left")
    grid = figure.subplots(1, len(counts), squeeze=False, sharey=True, gridspec_kw={"wspace": 0.08})[0]
    grid[0].set_ylabel("true class")
    for axes, (condition, table) in zip(grid, counts.items(), strict=True):
        _draw_confusion(axes, table, condition)
    return figure


def _draw_confusion(axes: Axes, table: pd.DataFrame, label: str) -> None:
    counts = table.to_numpy(float)
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    first, last = -0.5, len(table) - 0.5
    enlarged = shares.repeat(PIXELS_OF_CELL, axis=0).repeat(PIXELS_OF_CELL, axis=1)
    axes.imshow(enlarged, vmin=0, vmax=1, cmap="Blues", interpolation="none", extent=(first, last, last, first))
    axes.grid(visible=False)
    axes.set_title(label, fontsize=10, fontweight="normal", y=1.0)
    axes.set_xlabel("predicted class")
    axes.set_xticks(range(len(table)), [_label(name) for name in table.columns], rotation=90, fontsize=8)
    axes.set_yticks(range(len(table)), [_label(name) for name in table.index], fontsize=8)
    if len(table) <= LARGEST_ANNOTATED:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.55 else "#222222"
            axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize=7.5, color=colour)


def _per_class_figure(model: str, table: pd.DataFrame) -> Figure:
    """Draws the recall of each class: a row a class, a mark a condition."""
    names = [_label(name) for name in table.index]
    figure: Figure = figures.Figure(figsize=(6.4, 1.5 + 0.27 * len(table)))
    _set_margins(figure, left=0.3 + LETTER * max(map(len, names)), right=0.25, bottom=0.9, top=0.45)
    axes = figure.subplots()
    places = np.arange(len(table))
    axes.hlines(places, table.min(axis=1), table.max(axis=1), color="#C8C8C8", linewidth=2.5, zorder=1)
    for number, condition in enumerate(table.columns):
        colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
        axes.scatter(table[condition], places, s=38, color=colour, marker=marker, label=condition, clip_on=False, zorder=2)
    axes.set_title(f"{model}: recall of each class", y=1.0)
    axes.set_yticks(places, names)
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("recall")
    figure.legend(loc="lower left", ncols=4, fontsize=9)
    return figure
