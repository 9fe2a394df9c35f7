"""The page of a run: one self-contained HTML file, made from the tables of a results folder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.reports.compare import Comparison, compared_results
from harness.reports.decision.decision import decision_of
from harness.reports.figures.charts import Chart, corruption_charts, history_charts, palette_of, robustness_charts, roc_chart
from harness.reports.figures.curves import FOLDER, OWNED, draw_figures
from harness.reports.figures.poison_charts import detector_charts, success_charts
from harness.reports.figures.svg import Drawing, drawing_of
from harness.reports.files import write_text
from harness.reports.leading import leading
from harness.reports.load import Results, load_results, reading_tables
from harness.reports.models import ModelView, model_views
from harness.reports.names import WORST_CASE, texts_as_objects
from harness.reports.page import gallery
from harness.reports.page import poisons as poison_page
from harness.reports.page import tables as page_tables
from harness.reports.page.comparison import comparison_section
from harness.reports.page.decision import decision_line, requirements_table
from harness.reports.page.environment import environment
from harness.reports.page.examples import browser_of
from harness.reports.page.headline import cost, facts, summary, training_sentences
from harness.reports.page.runtimes import agreement, runtime_tables
from harness.reports.page.tables import MOST_ROWS, PageTable
from harness.reports.page.worst_classes import worst_classes_table
from harness.reports.tables.leaderboard import leaderboard_of
from harness.reports.tables.ranking import board_notes
from harness.reports.tables.write import write_csv
from harness.suites.models import GIVEN
from harness.system.memory import quick_garbage_collection

REPORT = "report.html"
MOST_CLASSES = 40
"""Number of classes up to which the page shows whole confusion matrices."""
MOST_OPEN = 3
"""Number of models up to which every model's section is open at first."""


@dataclass(frozen=True)
class Figure:
    """A chart with the numbers behind it."""

    drawing: Drawing
    numbers: PageTable | None
    files: tuple[str, ...] = ()
    """The same chart as files, from the results folder."""


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix: class names, and (count, share of the true class) by row and column."""

    label: str
    classes: tuple[str, ...]
    rows: tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True)
class ModelSection:
    """The section of one model."""

    view: ModelView
    recipe: str
    confusions: tuple[Confusion, ...]
    roc: Figure | None
    per_class: PageTable
    histories: tuple[Figure, ...]
    training: tuple[str, ...]
    """Sentences: which epoch is kept, and the warnings of the training."""


@quick_garbage_collection()
@texts_as_objects()
def write_report(results: Results, *, against: Results | None = None) -> Path:
    """Draws the figures of a results folder and writes its report.html, from its tables alone; returns the path of the page.

    Args:
        results: The tables of the results folder.
        against: Those of another one, which the page then compares this one with.

    Returns:
        The path of the page.

    Raises:
        HarnessError: if a table is missing or damaged, or the folder cannot be written.
    """
    comparison = None if against is None else compared_results(against, results)
    path = results.folder / REPORT
    with reading_tables(results.folder):
        results = _with_todays_leaderboard(results)
        notes = draw_figures(leading(results)).notes
        write_text(path, render(results, notes=notes, comparison=comparison))
    return path


def _with_todays_leaderboard(results: Results) -> Results:
    """Returns the same results; a leaderboard of an older run, which lacks columns of today, is first written anew."""
    if not results.has_old_leaderboard:
        return results
    write_csv(leaderboard_of(results), results.folder / "leaderboard.csv")
    return load_results(results.folder)


def render(results: Results, *, notes: Sequence[str] = (), comparison: Comparison | None = None) -> str:
    """Returns the page of a run.

    Args:
        results: Its tables.
        notes: Sentences for the head of the page.
        comparison: From another run to this one.
    """
    section = comparison_section(comparison)
    return environment().get_template("report.html.j2").render({**_context(results), "notes": notes, "comparison": section})


def _context(results: Results) -> Mapping[str, Any]:
    """Returns what the template shows: the head and the ranking of all models, the rest of those that are shown."""
    suite, decision = results.provenance["suite"], decision_of(results)
    shown = leading(results)
    return {
        **_shown_of_models(shown),
        "title": suite.get("title") or results.suite_name,
        "suite": results.suite_name,
        "description": suite.get("description", ""),
        "facts": facts(results),
        "summary": summary(results),
        "cost": cost(results),
        "decision": [decision_line(model) for model in decision.models if model.model in palette_of(shown)],
        "threat_model": decision.threat_model,
        "not_assessed": decision.not_assessed,
        "requirements": requirements_table(decision) if decision.requirements else None,
        "expectations": results.expectations.to_dict("records"),
        "leaderboard": page_tables.leaderboard_table(results),
        "board_notes": board_notes(results.leaderboard),
        "left_out": _left_out(results, shown),
        "provenance": _provenance(results),
    }


def _left_out(results: Results, shown: Results) -> str:
    """Returns which models the page shows, in a sentence; empty where it shows all."""
    count, total = len(palette_of(shown)), len(palette_of(results))
    if count == total:
        return ""
    return (
        f"Of {total:,} models this page shows the {count} first of the leaderboard: their decisions, curves, sections and cells. "
        "The leaderboard is of all, and so are the tables of the results folder; harness decide says of each whether it may ship."
    )


def _shown_of_models(results: Results) -> Mapping[str, Any]:
    """Returns the parts of the page that show models one by one."""
    sections = tuple(_model_sections(results))
    return {
        "robustness": [_figure(results, chart) for chart in robustness_charts(results) if _is_headline(results, chart)],
        "weaker": [_figure(results, chart) for chart in robustness_charts(results) if not _is_headline(results, chart)],
        "before_after": page_tables.before_after_tables(results),
        "models": sections,
        "open_models": len(sections) <= MOST_OPEN,
        "worst_classes": worst_classes_table(results),
        "gallery": list(gallery.pictures(results)),
        "examples": browser_of(results),
        "corruptions": [_figure(results, chart) for chart in corruption_charts(results)],
        "poisons": poison_page.poisons_table(results),
        "poison_success": [_figure(results, chart) for chart in success_charts(results)],
        "poison_pictures": list(poison_page.pictures(results)),
        "detectors": poison_page.detectors_table(results),
        "detector_curves": [_figure(results, chart, numbers=False) for chart in detector_charts(results)],
        "stages": page_tables.stages_table(results),
        "transfer": page_tables.transfer_tables(results),
        "crossruntime": runtime_tables(results),
        "agreement": agreement(results.crossruntime),
        "cells": page_tables.cells_table(results),
    }


def _is_headline(results: Results, chart: Chart) -> bool:
    """Returns whether a robustness curve is that of the worst case, or of an attack that is the strongest on some model."""
    strongest = results.leaderboard["strongest_attack"].dropna().unique()
    return chart.of in (WORST_CASE, *strongest)


def _figure(results: Results, chart: Chart, *, numbers: bool = True) -> Figure:
    files = (f"{FOLDER}/{chart.name}{ending}" for ending in OWNED[FOLDER])
    there = tuple(file for file in files if (results.folder / file).is_file())
    return Figure(drawing_of(chart), page_tables.numbers_table(chart) if numbers else None, there)


def _model_sections(results: Results) -> Iterator[ModelSection]:
    for place, view in enumerate(model_views(results), start=1):
        first = view.cells.iloc[0]
        roc = roc_chart(results, view)
        yield ModelSection(
            view=view,
            recipe=f"{first['arch']}, {_origin(results, view.label, str(first['recipe']))}",
            confusions=tuple(_confusions(results, view)),
            roc=_figure(results, roc, numbers=False) if roc else None,
            per_class=page_tables.per_class_table(
                view.classes, [condition.label for condition in view.conditions], number_of_model=place
            ),
            histories=tuple(_figure(results, chart) for chart in history_charts(results, view.label)),
            training=training_sentences(results, view.label),
        )


def _origin(results: Results, label: str, recipe: str) -> str:
    """Returns how a model came about; of an ONNX file also where its gradient comes from."""
    if recipe != GIVEN:
        return f"trained by {recipe}"
    gradient = results.provenance.get("models", {}).get(label, {}).get("gradient")
    return "judged as given" + (f", with {gradient}" if gradient else "")


def _confusions(results: Results, view: ModelView) -> Iterator[Confusion]:
    for condition in view.conditions:
        table = results.matrix("confusion", condition.file).set_index("true_class")
        if len(table) > MOST_CLASSES:
            return
        shares = table.div(table.sum(axis=1).clip(lower=1), axis=0)
        rows = (tuple(zip(counts, rates, strict=True)) for counts, rates in zip(table.to_numpy(), shares.to_numpy(), strict=True))
        yield Confusion(condition.label, tuple(map(str, table.index)), tuple(rows))


def _provenance(results: Results) -> list[tuple[str, str]]:
    """Returns names and values of what is recorded of the run, the first `MOST_ROWS` of them."""
    found = list(_flattened(results.provenance))
    rest = f"{len(found) - MOST_ROWS:,} more values are in provenance.json"
    return found if len(found) <= MOST_ROWS else [*found[:MOST_ROWS], ("and so on", rest)]


def _flattened(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields dotted names and texts of all values of a nested mapping."""
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _flattened(entry, f"{prefix}{name}.")
        elif isinstance(entry, list):
            yield f"{prefix}{name}", ", ".join(map(str, entry))
        else:
            yield f"{prefix}{name}", "" if pd.isna(entry) else str(entry)
