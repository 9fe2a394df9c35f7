"""A chart's geometry for the page: where lines, bands, marks and labels lie in an SVG."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from harness.reports.figures.charts import Chart, Series, value_text

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 68, 16, 14, 46
COLOURS = 7
"""Colours of the page's palette; the next ones are dashed."""
MARK = 4.2
SHAPES = (
    "M{-1} 0a{1} {1} 0 1 0 {2} 0a{1} {1} 0 1 0 {-2} 0z",
    "M{-0.9} {-0.9}h{1.8}v{1.8}h{-1.8}z",
    "M0 {-1.1}l{1.1} {1.9}h{-2.2}z",
    "M0 {-1.25}l{1.25} {1.25}l{-1.25} {1.25}l{-1.25} {-1.25}z",
    "M0 {1.1}l{1.1} {-1.9}h{-2.2}z",
)
"""Disc, square, triangle, diamond, triangle downwards; the numbers in braces are in units of `MARK`."""


@dataclass(frozen=True)
class Mark:
    """A point that a reader can point at."""

    x: float
    y: float
    tip: str


@dataclass(frozen=True)
class Line:
    """One series in the coordinates of the SVG."""

    label: str
    colour: int
    dash: int
    weight: str
    shape: str
    path: str
    band: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Drawing:
    """A whole chart in the coordinates of the SVG."""

    chart: Chart
    summary: str
    """The chart in words, for readers who do not see it."""
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


class _Texts(dict[float, str]):
    """Value -> its coordinate as text, which is made once: most of the curves' values, shares of few examples, come often."""

    def __init__(self, place: Callable[[float], float]) -> None:
        super().__init__()
        self._place = place

    def __missing__(self, value: float) -> str:
        self[value] = text = _coordinate(self._place(value))
        return text


class _Scale:
    """Maps a chart's values to coordinates."""

    def __init__(self, chart: Chart) -> None:
        """See the class."""
        positions = [x for series in chart.series for x in series.x]
        self.x0, self.x1 = min(positions), max(positions)
        self.y0, self.y1 = chart.y_range

        self._xs: dict[tuple[float, ...], list[str]] = {}
        self._ys = _Texts(self._y)

    def x(self, value: float) -> float:
        return round(self._x(value), 1)

    def y(self, value: float) -> float:
        return round(self._y(value), 1)

    def _x(self, value: float) -> float:
        share = (value - self.x0) / (self.x1 - self.x0) if self.x1 > self.x0 else 0.5
        return LEFT + 8 + share * (WIDTH - LEFT - RIGHT - 16)

    def _y(self, value: float) -> float:
        share = (value - self.y0) / ((self.y1 - self.y0) or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def path(self, x: tuple[float, ...], y: tuple[float, ...]) -> str:
        if x not in self._xs:  # the curves of a chart, which are many, often have the same places
            self._xs[x] = [_coordinate(self._x(value)) for value in x]
        ys = self._ys
        return "M" + "L".join([f"{text} {ys[value]}" for text, value in zip(self._xs[x], y, strict=True) if math.isfinite(value)])


def _coordinate(value: float) -> str:
    """Returns a coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def drawing_of(chart: Chart) -> Drawing:
    """Returns a chart in the coordinates of an SVG of `WIDTH` x `HEIGHT`."""
    scale = _Scale(chart)
    return Drawing(
        chart=chart,
        summary="; ".join(_in_words(chart, series) for series in chart.series if series.weight != "faint"),
        x_ticks=tuple((scale.x(position), text) for position, text in chart.x_ticks),
        y_ticks=tuple((scale.y(position), text) for position, text in _y_ticks(chart)),
        lines=tuple(_line(chart, series, scale) for series in chart.series),
    )


def _line(chart: Chart, series: Series, scale: _Scale) -> Line:
    band = scale.path((*series.x, *reversed(series.x)), (*series.high, *reversed(series.low))) + "z" if series.low else ""
    places = [place for place, y in enumerate(series.y) if math.isfinite(y)] if series.weight == "line" else []
    return Line(
        label=series.label,
        colour=series.colour % COLOURS,
        dash=series.colour // COLOURS % 3,
        weight=series.weight,
        shape=_shape(series.colour),
        path=scale.path(series.x, series.y),
        band=band,
        marks=tuple(Mark(scale.x(series.x[place]), scale.y(series.y[place]), tip_of(chart, series, place)) for place in places),
    )


def _shape(colour: int) -> str:
    """Returns the outline of a mark, so that lines differ by more than colour."""
    pieces = SHAPES[colour % len(SHAPES)].replace("}", "{").split("{")
    return "".join(piece if place % 2 == 0 else f"{float(piece) * MARK:g}" for place, piece in enumerate(pieces))


def tip_of(chart: Chart, series: Series, place: int) -> str:
    """Returns the description of one point: series, place on the axis, value, interval and number of examples."""
    where = series.notes[place] if series.notes else f"{chart.x_label} {dict(chart.x_names)[series.x[place]]}"
    lines = [series.label, where, f"{chart.y_label} {value_text(chart, series, place)}"]
    return "\n".join([*lines, f"n = {series.n[place]}"] if series.n else lines)


def _y_ticks(chart: Chart) -> list[tuple[float, str]]:
    low, high = chart.y_range
    if (low, high) == (0.0, 1.0):
        return [(tick / 5, f"{tick * 20} %") for tick in range(6)]
    step = 10 ** math.floor(math.log10(max(high - low, 1e-12)))
    step = next(step * share for share in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (step * share) <= 6)
    return [(low + number * step, f"{low + number * step:g}") for number in range(int((high - low) / step) + 1)]


def _in_words(chart: Chart, series: Series) -> str:
    points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(y)]
    if not points:
        return f"{series.label}: no value"
    (first_x, first), (last_x, last) = points[0], points[-1]
    return f"{series.label}: {chart.y_label} from {first:.3g} at {first_x:.3g} to {last:.3g} at {last_x:.3g}"
