import dataclasses
import math

import pytest

from harness.reports.figures.charts import Chart, Series, robustness_charts, value_text
from harness.reports.figures.svg import HEIGHT, WIDTH, drawing_of
from harness.reports.load import Results

CHART = Chart("c", "A chart", "epoch", "loss", (Series("a", 0, (1.0, 2.0), (4.0, 0.0)),), ((1.0, "1"), (2.0, "2")), (0.0, 4.0))


def test_everything_lies_inside_the_picture(results: Results) -> None:
    for chart in robustness_charts(results):
        drawing = drawing_of(chart)
        marks = [mark for line in drawing.lines for mark in line.marks]
        assert len(marks) == 8
        assert all(drawing.left <= mark.x <= drawing.right and drawing.top <= mark.y <= drawing.bottom for mark in marks)
    assert 0 < drawing.left < drawing.right < WIDTH
    assert 0 < drawing.top < drawing.bottom < HEIGHT


def test_larger_values_lie_higher_and_further_right() -> None:
    first, last = drawing_of(CHART).lines[0].marks
    assert first.x < last.x
    assert first.y < last.y


def test_a_reader_who_points_at_a_mark_learns_value_interval_and_count(results: Results) -> None:
    line = drawing_of(robustness_charts(results)[0]).lines[1]
    assert line.marks[2].tip == "pgd\neps 4/255 = 0.01569\nrobust accuracy 55.0 % (39.8–69.3)\nn = 40"


def test_a_value_that_is_no_rate_is_written_as_it_is() -> None:
    assert value_text(CHART, CHART.series[0], 0) == "4"
    assert [text for _, text in drawing_of(CHART).y_ticks] == ["0", "1", "2", "3", "4"]


def test_a_value_that_is_not_finite_is_left_out() -> None:
    chart = dataclasses.replace(CHART, series=(Series("a", 0, (1.0, 2.0, 3.0), (1.0, math.inf, math.nan)),))
    line = drawing_of(chart).lines[0]
    assert len(line.marks) == 1
    assert "nan" not in line.path
    assert "inf" not in line.path


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_a_single_point_lies_in_the_middle(value: float) -> None:
    chart = dataclasses.replace(CHART, series=(Series("a", 0, (2.0,), (value,)),), x_names=((2.0, "2"),))
    drawing = drawing_of(chart)
    assert drawing.lines[0].marks[0].x == pytest.approx((drawing.left + drawing.right) / 2)


def test_a_chart_is_told_in_words_too(results: Results) -> None:
    assert drawing_of(CHART).summary == "a: loss from 4 at 1 to 0 at 2"
