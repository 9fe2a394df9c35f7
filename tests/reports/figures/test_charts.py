import math
from itertools import pairwise

import pytest

from harness.records import Status
from harness.reports.figures.charts import Chart, corruption_charts, history_charts, robustness_charts, roc_chart
from harness.reports.load import Results, load_results
from harness.reports.models import model_views
from tests.reports.conftest import Write
from tests.reports.planted import attack_results, clean_result, corruption_result, lost_result


def named(charts: list[Chart], name: str) -> Chart:
    return next(chart for chart in charts if chart.name == name)


def test_the_worst_case_comes_first_and_every_attack_has_a_chart(results: Results) -> None:
    names = [chart.name for chart in robustness_charts(results)]
    assert names == ["robust_accuracy__worst_case", "robust_accuracy__fgsm", "robust_accuracy__pgd"]


def test_a_curve_starts_at_clean_accuracy_and_carries_its_intervals(results: Results) -> None:
    line = named(robustness_charts(results), "robust_accuracy__pgd").series[1]
    assert line.label == "pgd"
    assert line.x == pytest.approx((0, 2 / 255, 4 / 255, 8 / 255))
    assert line.y == pytest.approx((0.8, 29 / 40, 24 / 40, 16 / 40))
    assert line.n == (40, 40, 40, 40)
    assert all(low < y < high for low, y, high in zip(line.low, line.y, line.high, strict=True))
    assert line.notes[2] == "eps 4/255 = 0.01569"


def test_linf_budgets_are_read_in_255ths_and_in_decimals(results: Results) -> None:
    chart = robustness_charts(results)[0]
    assert [name for _, name in chart.x_names] == ["0", "2", "4", "8"]
    assert chart.x_label == "eps in 255ths of the pixel range"
    assert chart.second_axis == (1.0, "eps in units of the pixel range")


def test_another_norm_has_charts_of_its_own_in_decimals(written: Write) -> None:
    results = written([*attack_results("pgd", "pgd"), *attack_results("pgd", "fgsm", norm="L2")])
    chart = named(robustness_charts(results), "robust_accuracy__fgsm__L2")
    assert chart.second_axis is None
    assert chart.x_label == "eps (L2, pixels in [0,1])"


def test_a_model_has_the_same_colour_everywhere(results: Results) -> None:
    colours = {(line.label, line.colour) for chart in robustness_charts(results) for line in chart.series}
    assert colours == {("baseline", 0), ("pgd", 1)}


def test_tick_labels_do_not_touch() -> None:
    names = tuple((float(position), str(position)) for position in range(101))
    ticks = Chart("c", "", "", "", (), names).x_ticks
    assert ticks[-1] == (100.0, "100")
    assert min(right - left for (left, _), (right, _) in pairwise(ticks)) >= 4.5


def test_the_mean_over_corruptions_leaves_out_severities_with_a_lost_cell(written: Write) -> None:
    cells = [
        corruption_result("pgd", corruption, severity, wrong) for corruption, severity, wrong in (("fog", 1, 10), ("jpeg", 1, 20))
    ]
    lost = lost_result("pgd", Status.FAILED, "", condition="corruption", corruption="jpeg", severity=2)
    charts = corruption_charts(written([clean_result("pgd"), *cells, corruption_result("pgd", "fog", 2, 30), lost]))
    assert [chart.name for chart in charts] == ["corruption__mean", "corruption__fog", "corruption__jpeg"]
    assert (charts[0].series[0].x, charts[0].series[0].y) == ((1.0,), (0.625,))
    assert charts[1].series[0].y == (0.75, 0.25)


def test_corruptions_without_a_severity_in_common_have_no_mean(written: Write) -> None:
    cells = [corruption_result("pgd", "fog", 1, 10), corruption_result("pgd", "jpeg", 2, 20)]
    charts = corruption_charts(written([clean_result("pgd"), *cells]))
    assert [chart.name for chart in charts] == ["corruption__fog", "corruption__jpeg"]


def test_the_mean_over_corruptions_is_over_common_ones(written: Write) -> None:
    rotation = corruption_result("pgd", "rotation", 1, 40, "geometry")
    both = corruption_charts(written([clean_result("pgd"), corruption_result("pgd", "fog", 1, 10), rotation], "both"))
    assert [(chart.name, chart.series[0].y) for chart in both] == [
        ("corruption__mean", (0.75,)),
        ("corruption__fog", (0.75,)),
        ("corruption__rotation", (0.0,)),
    ]
    alone = corruption_charts(written([clean_result("pgd"), rotation], "alone"))
    assert [chart.name for chart in alone] == ["corruption__rotation"]


def test_a_run_without_corruptions_has_no_charts_of_them(results: Results) -> None:
    assert corruption_charts(results) == []


def test_history_is_drawn_by_quantity(results: Results) -> None:
    accuracy, loss = history_charts(results, "pgd")
    assert [line.label for line in accuracy.series] == ["train", "validation", "validation robust"]
    assert loss.series[0].y == pytest.approx([2 / epoch for epoch in range(1, 7)])
    assert loss.y_range == pytest.approx((0, 2.1))
    assert [line.label for line in history_charts(results, "baseline")[0].series] == ["train", "validation"]


def test_a_diverged_training_can_be_drawn(written: Write) -> None:
    epochs = ({"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": math.inf})
    (loss,) = history_charts(written([clean_result("pgd")], histories={"pgd": epochs}), "pgd")
    assert loss.y_range == pytest.approx((0, 2.1))


def test_roc_curves_run_from_corner_to_corner(results: Results) -> None:
    chart = roc_chart(results, model_views(results)[0])
    assert chart is not None
    assert len(chart.series) == 3 * (3 + 1)
    assert all((line.x[0], line.y[0], line.x[-1], line.y[-1]) == (0, 0, 1, 1) for line in chart.series)
    assert chart.series[-1].label.startswith("pgd 4/255, mean (AUC 0.")


def test_a_model_is_looked_at_clean_and_under_attack(results: Results) -> None:
    view = model_views(results)[0]
    assert [condition.label for condition in view.conditions] == ["clean", "fgsm 4/255", "pgd 4/255"]
    assert [condition.file for condition in view.conditions][1] == "baseline__fgsm__eps-4-255"
    assert list(view.recall.index) == ["beet", "carrot", "null"]
    assert view.recall.loc["beet", "clean"] == pytest.approx(12 / 14)


def test_of_many_attacks_the_strongest_are_looked_at(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.reports.models.MOST_ATTACKS", 1)
    view = model_views(load_results(results.folder))[0]
    assert [condition.label for condition in view.conditions] == ["clean", "pgd 4/255"]


def test_a_model_without_numbers_is_shown_without_conditions(written: Write) -> None:
    lost = lost_result("broken", Status.FAILED, "diverged")
    assert [view.conditions for view in model_views(written([lost]))] == [()]
