"""The page's part on poisons: tables of success and detection, and pictures of poisoned examples."""

import base64
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.poisoning.manifest import Manifest, PoisonedExample
from harness.records import FINISHED
from harness.reports.load import Results
from harness.reports.names import POISONED_MODEL, model_label
from harness.reports.page.tables import MISSING, PageEntry, PageTable, number, rate, text

EXAMPLES = 6
"""Poisoned examples of a picture."""
AIMLESS = "aims at no class"
"""Text in place of a success rate for random labels."""


@dataclass(frozen=True)
class Picture:
    """Some poisoned examples of one poisoned training set."""

    title: str
    source: str
    """The image as a data address."""
    manifest: str
    """Path of the manifest, relative to the page."""
    labels: tuple[str, ...]
    """The label of each example before and after, e.g. "4 → 3"; one text where it stays."""


def poisons_table(results: Results) -> PageTable | None:
    """Returns the change and the success of each poison; of repetitions the mean, and below it the smallest and largest."""
    if results.poisons.empty:
        return None
    rows = [_poison_entries(rows) for _, rows in results.poisons.groupby(POISONED_MODEL, sort=False)]
    columns = ("Model", "Seeds", "Poisoned examples", "Largest change", "Changed pixels", "Clean accuracy", "Drop in points")
    numeric = frozenset(range(1, 9))
    return PageTable("What each poison achieved", (*columns, "Success", "Accuracy on triggered images"), tuple(rows), numeric)


def _poison_entries(rows: pd.DataFrame) -> tuple[PageEntry, ...]:
    first: dict[Hashable, Any] = rows.to_dict("records")[0]
    done = rows[rows["poisoned"].notna()]
    count = PageEntry(MISSING) if done.empty else PageEntry(f"{first['poisoned']:,}", f"of {first['training_examples']:,}")
    return (
        _label(first),
        PageEntry(str(len(rows))),
        count,
        number(done["largest_change"].max(), "{:.3f}"),
        number(done["changed_pixels"].max() if len(done) else None),
        _mean(rows["clean_accuracy"]),
        _points(rows["clean_accuracy_drop"]),
        _success(rows),
        _mean(rows["triggered_accuracy"]),
    )


def _label(row: Mapping[Any, Any]) -> PageEntry:
    """Returns a model's name without its seed, with the reason where it has no numbers."""
    return text(model_label({**row, "seed": 0}), row["reason"])


def _mean(values: "pd.Series[float]") -> PageEntry:
    """Returns a mean over repetitions, with the smallest and the largest value; missing where one is missing."""
    if values.isna().any():
        return PageEntry(MISSING, order=-1.0)
    return rate(values.mean(), *((values.min(), values.max()) if len(values) > 1 else ()))


def _points(values: "pd.Series[float]") -> PageEntry:
    if values.isna().any():
        return PageEntry(MISSING)
    return PageEntry(f"{100 * values.mean():.1f}".replace("-", "−"), order=float(values.mean()))


def _success(rows: pd.DataFrame) -> PageEntry:
    if rows["attack_success_rate"].isna().any():
        aimless = rows["target_class"].isna().all() and rows["status"].isin(FINISHED).all()
        return PageEntry(MISSING, AIMLESS if aimless else "", order=-1.0)
    if rows["targets"].notna().all():
        hits, targets = int(rows["targets_hit"].sum()), int(rows["eligible"].sum())
        return PageEntry(f"{hits} of {targets} targets", order=hits / targets if targets else -1.0)
    if len(rows) > 1:
        return _mean(rows["attack_success_rate"])
    row = rows.iloc[0]
    return rate(row["attack_success_rate"], row["attack_success_rate_low"], row["attack_success_rate_high"])


def detectors_table(results: Results) -> PageTable | None:
    """Returns the scores of each detector on each poison, and the scores before and after training anew on filtered data."""
    if results.detectors.empty:
        return None
    rows = [_detector_entries(rows) for _, rows in results.detectors.groupby([*POISONED_MODEL, "detector"], sort=False)]
    columns = ("Model", "Detector", "Seeds", "AUC", "Precision", "Recall", "False alarms", "False alarms on clean data")
    numeric = frozenset(range(2, 10))
    caption = "What each detector found"
    return PageTable(caption, (*columns, "Clean accuracy before → after", "Success before → after"), tuple(rows), numeric)


def _detector_entries(rows: pd.DataFrame) -> tuple[PageEntry, ...]:
    first: dict[Hashable, Any] = rows.to_dict("records")[0]
    return (
        _label(first),
        text(first["detector"], f"{first['images']} images"),
        PageEntry(str(len(rows))),
        PageEntry(MISSING) if rows["auc"].isna().any() else number(rows["auc"].mean(), "{:.3f}"),
        *(_mean(rows[name]) for name in ("precision", "recall", "false_alarm_rate", "control_false_alarm_rate")),
        *(_change(rows, name) for name in ("clean_accuracy", "attack_success_rate")),
    )


def _change(rows: pd.DataFrame, name: str) -> PageEntry:
    before, after = (rows[f"{name}_{when}"] for when in ("before", "after"))
    if before.isna().any() or after.isna().any():
        return PageEntry(MISSING, order=-1.0)
    return PageEntry(f"{100 * before.mean():.1f} → {100 * after.mean():.1f}", order=float(after.mean()))


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
