"""What figures and page show of poisons: success by rate, detectors' ROC curves, tables and pictures."""

import base64
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.metrics import Floats
from harness.poisoning.manifest import Manifest, PoisonedExample
from harness.records import FINISHED
from harness.reports.charts import ROC_GRID, Chart, Series
from harness.reports.load import Results
from harness.reports.names import model_label, poison_name, slug
from harness.reports.page_tables import MISSING, Entry, PageTable, number, rate, text

EXAMPLES = 6
"""Poisoned examples of a picture."""
AIMLESS = "aims at no class"
"""Said in place of a success of random labels."""
MODEL = ["model", "poison", "poison_rate"]
"""Rows that agree in these are repetitions of each other."""


@dataclass(frozen=True)
class Picture:
    """Some poisoned examples of one poisoned training set."""

    title: str
    source: str
    """The image as a data address."""
    manifest: str
    """Where the manifest lies beside the page."""
    labels: tuple[str, ...]
    """The label of each example before and after, e.g. "4 → 3"; one text where it stays."""


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


def detector_charts(results: Results) -> list[Chart]:
    """Returns, for each poisoned model, the ROC curves of the detectors that looked at it."""
    if results.detectors_roc.empty:
        return []
    colours = {label: place for place, label in enumerate(results.detectors["detector"].unique())}
    areas = results.detectors.groupby([*MODEL, "detector"])["auc"].mean().to_dict()
    ticks = tuple((tick / 5, f"{tick / 5:g}") for tick in range(6))
    charts = []
    for key, rows in results.detectors_roc.groupby(MODEL, sort=False):
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


def poisons_table(results: Results) -> PageTable | None:
    """Returns what each poison changed and achieved; of repetitions the mean, and below it the smallest and largest."""
    if results.poisons.empty:
        return None
    rows = [_poison_entries(rows) for _, rows in results.poisons.groupby(MODEL, sort=False)]
    columns = ("Model", "Seeds", "Poisoned examples", "Largest change", "Changed pixels", "Clean accuracy", "Drop in points")
    numeric = frozenset(range(1, 9))
    return PageTable("What each poison achieved", (*columns, "Success", "Accuracy on triggered images"), tuple(rows), numeric)


def _poison_entries(rows: pd.DataFrame) -> tuple[Entry, ...]:
    first: dict[Hashable, Any] = rows.to_dict("records")[0]
    done = rows[rows["poisoned"].notna()]
    count = Entry(MISSING) if done.empty else Entry(f"{first['poisoned']:,}", f"of {first['training_examples']:,}")
    return (
        _label(first),
        Entry(str(len(rows))),
        count,
        number(done["largest_change"].max(), "{:.3f}"),
        number(done["changed_pixels"].max() if len(done) else None),
        _mean(rows["clean_accuracy"]),
        _points(rows["clean_accuracy_drop"]),
        _success(rows),
        _mean(rows["triggered_accuracy"]),
    )


def _label(row: Mapping[Any, Any]) -> Entry:
    """Names a model without its seed; what it has no numbers for, with the reason."""
    return text(model_label({**row, "seed": 0}), row["reason"])


def _mean(values: "pd.Series[float]") -> Entry:
    """Returns a mean over repetitions, with the smallest and the largest value; missing where one is missing."""
    if values.isna().any():
        return Entry(MISSING, order=-1.0)
    return rate(values.mean(), *((values.min(), values.max()) if len(values) > 1 else ()))


def _points(values: "pd.Series[float]") -> Entry:
    if values.isna().any():
        return Entry(MISSING)
    return Entry(f"{100 * values.mean():.1f}".replace("-", "−"), order=float(values.mean()))


def _success(rows: pd.DataFrame) -> Entry:
    if rows["attack_success_rate"].isna().any():
        aimless = rows["target_class"].isna().all() and rows["status"].isin(FINISHED).all()
        return Entry(MISSING, AIMLESS if aimless else "", order=-1.0)
    if rows["targets"].notna().all():
        hits, targets = int(rows["targets_hit"].sum()), int(rows["eligible"].sum())
        return Entry(f"{hits} of {targets} targets", order=hits / targets if targets else -1.0)
    if len(rows) > 1:
        return _mean(rows["attack_success_rate"])
    row = rows.iloc[0]
    return rate(row["attack_success_rate"], row["attack_success_rate_low"], row["attack_success_rate_high"])


def detectors_table(results: Results) -> PageTable | None:
    """Returns how well each detector found each poison, and what filtering and training anew changed."""
    if results.detectors.empty:
        return None
    rows = [_detector_entries(rows) for _, rows in results.detectors.groupby([*MODEL, "detector"], sort=False)]
    columns = ("Model", "Detector", "Seeds", "AUC", "Precision", "Recall", "False alarms", "False alarms on clean data")
    numeric = frozenset(range(2, 10))
    caption = "What each detector found"
    return PageTable(caption, (*columns, "Clean accuracy before → after", "Success before → after"), tuple(rows), numeric)


def _detector_entries(rows: pd.DataFrame) -> tuple[Entry, ...]:
    first: dict[Hashable, Any] = rows.to_dict("records")[0]
    return (
        _label(first),
        text(first["detector"], f"{first['images']} images"),
        Entry(str(len(rows))),
        Entry(MISSING) if rows["auc"].isna().any() else number(rows["auc"].mean(), "{:.3f}"),
        *(_mean(rows[name]) for name in ("precision", "recall", "false_alarm_rate", "control_false_alarm_rate")),
        *(_change(rows, name) for name in ("clean_accuracy", "attack_success_rate")),
    )


def _change(rows: pd.DataFrame, name: str) -> Entry:
    before, after = (rows[f"{name}_{when}"] for when in ("before", "after"))
    if before.isna().any() or after.isna().any():
        return Entry(MISSING, order=-1.0)
    return Entry(f"{100 * before.mean():.1f} → {100 * after.mean():.1f}", order=float(after.mean()))


def pictures(results: Results) -> Iterator[Picture]:
    """Yields a picture for each poison at each rate: the first repetition's, as all models share it."""
    if results.poisons.empty:
        return
    made = results.poisons[results.poisons["manifest"].notna()]
    for row in made.drop_duplicates(["poison", "poison_rate"]).to_dict("records"):
        path = results.folder / str(row["manifest"])
        if path.is_file() and path.with_suffix(".png").is_file():
            source = base64.b64encode(path.with_suffix(".png").read_bytes()).decode()
            labels = tuple(_relabelled(example, results) for example in Manifest.load(path).spread(EXAMPLES))
            title = f"{row['poison']} {100 * row['poison_rate']:g} %"
            yield Picture(title, f"data:image/png;base64,{source}", str(row["manifest"]), labels)


def _relabelled(example: PoisonedExample, results: Results) -> str:
    before, after = (results.provenance["class_names"][label] for label in (example.label_before, example.label_after))
    return str(before) if before == after else f"{before} → {after}"
