"""Charts of poisons: success by the poisoned share, and the ROC curves of detectors."""

import numpy as np
import pandas as pd

from harness.metrics import Floats
from harness.reports.figures.charts import ROC_GRID, Chart, Series
from harness.reports.load import Results, once
from harness.reports.names import POISONED_MODEL, model_label, poison_name, slug


@once
def success_charts(results: Results) -> list[Chart]:
    """Returns, for each poison with several rates, its success against the share of poisoned training examples."""
    if results.poisons.empty:
        return []
    palette = {model: place for place, model in enumerate(results.cells["model"].unique())}
    known = results.poisons[results.poisons["attack_success_rate"].notna()]
    charts = []
    for poison, rows in known.groupby("poison", sort=False):
        names = tuple((100 * float(rate), f"{100 * rate:g}") for rate in sorted(rows["poison_rate"].unique()))
        if len(names) > 1:
            lines = tuple(_success_line(str(model), palette[model], own) for model, own in rows.groupby("model", sort=False))
            x_label, name = "poisoned share of the training set in %", f"poison_success__{slug(str(poison))}"
            charts.append(Chart(name, str(poison), x_label, "attack success rate", lines, names))
    return charts


def _success_line(model: str, colour: int, rows: pd.DataFrame) -> Series:
    """Of repetitions the mean is drawn, in a band that covers the interval of each."""
    grouped = rows.groupby("poison_rate")
    rates, counts = [float(value) for value in sorted(rows["poison_rate"].unique())], grouped.size()
    notes = tuple(f"{100 * rate:g} % poisoned, mean of {count} seeds" for rate, count in zip(rates, counts, strict=True))
    return Series(
        label=model,
        colour=colour,
        x=tuple(100 * rate for rate in rates),
        y=tuple(grouped["attack_success_rate"].mean()),
        low=tuple(grouped["attack_success_rate_low"].min()),
        high=tuple(grouped["attack_success_rate_high"].max()),
        n=tuple(grouped["eligible"].sum()),
        notes=notes if counts.max() > 1 else (),
    )


@once
def detector_charts(results: Results) -> list[Chart]:
    """Returns, for each poisoned model, the ROC curves of its detectors."""
    if results.detectors_roc.empty:
        return []
    colours = {label: place for place, label in enumerate(results.detectors["detector"].unique())}
    areas = results.detectors.groupby([*POISONED_MODEL, "detector"])["auc"].mean().to_dict()
    ticks = tuple((tick / 5, f"{tick / 5:g}") for tick in range(6))
    charts = []
    for key, rows in results.detectors_roc.groupby(POISONED_MODEL, sort=False):
        first = {**rows.to_dict("records")[0], "seed": 0}
        lines = [Series("chance", len(colours), (0.0, 1.0), (0.0, 1.0), weight="faint")]
        for label, own in rows.groupby("detector", sort=False):
            lines.append(_roc_line(f"{label} (AUC {areas[*key, label]:.3f}", colours[label], own))
        title = f"{model_label(first)}: which examples are poisoned"
        name = f"detectors__{slug(str(first['model']))}__{poison_name(first)}"
        charts.append(Chart(name, title, "false positive rate", "true positive rate", tuple(lines), ticks))
    return charts


def _roc_line(label: str, colour: int, rows: pd.DataFrame) -> Series:
    """Of repetitions the mean curve is drawn."""
    curves = [_on_grid(points) for _, points in rows.groupby("seed", sort=False)]
    seeds = f", {len(curves)} seeds)" if len(curves) > 1 else ")"
    return Series(f"{label}{seeds}", colour, tuple(ROC_GRID), tuple(np.mean(curves, axis=0)), weight="plain")


def _on_grid(points: pd.DataFrame) -> Floats:
    curve = np.interp(ROC_GRID, points["false_positive_rate"], points["true_positive_rate"])
    curve[0] = 0.0
    return curve
