"""The report of a large made-up run: what its tables, decision, figures and page cost, and how large the page is."""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from harness.cli.console import show_table
from harness.metrics import Floats
from harness.records import Cell, CellResult, ConditionResult, RunRecord, Status, Verdict
from harness.reports.load import load_results
from harness.reports.page.html import write_report
from harness.reports.tables.write import write_tables

EXAMPLES = 600
MEGABYTE = 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this part."""
    group = parser.add_argument_group("report")
    for name, count in {"models": 20, "attacks": 10, "budgets": 10, "classes": 60}.items():
        group.add_argument(f"--report-{name}", type=int, default=count, help=f"{name} of the made-up run")


def show_report(options: argparse.Namespace) -> None:
    """Measures and prints processor seconds, each of a first writing and of one that finds its figures drawn."""
    sizes = options.report_models, options.report_attacks, options.report_budgets, options.report_classes
    record = record_of(*sizes)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        seconds = {
            "tables": _processor_seconds(lambda: write_tables(record, out)),
            "report, no figure drawn yet": _processor_seconds(lambda: write_report(load_results(out))),
            "report, figures drawn": _processor_seconds(lambda: write_report(load_results(out))),
        }
        page = (out / "report.html").stat().st_size / MEGABYTE
    rows = [(name, f"{value:.1f}") for name, value in seconds.items()]
    title = "{} models x {} attacks x {} budgets, {} classes, {} examples".format(*sizes, EXAMPLES)
    show_table(f"{title}; page {page:.1f} MiB", ["part", "processor seconds"], rows)


def _processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def record_of(models: int, attacks: int, budgets: int, classes: int) -> RunRecord:
    """Returns a run in which more examples are adversarial at each larger budget, and under each later attack."""
    names = tuple(f"class {number}" for number in range(classes))
    cells = tuple(
        cell
        for model in range(models)
        for cell in _cells_of(f"model {model}", np.random.default_rng(model), attacks=attacks, budgets=budgets, classes=classes)
    )
    ids = tuple(f"test/{number}.png" for number in range(EXAMPLES))
    suite = {"name": "large", "title": "A large made-up run", "description": ""}
    history = tuple({"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": 1 - 0.5 / epoch} for epoch in range(1, 11))
    return RunRecord(suite, cells, names, ids, ids, histories={f"model {model}": history for model in range(models)})


def _cells_of(model: str, rng: np.random.Generator, *, attacks: int, budgets: int, classes: int) -> Iterator[CellResult]:
    labels = np.arange(EXAMPLES) % classes
    clean, no_distance = _logits(labels, classes, rng), np.zeros(EXAMPLES, np.float32)
    right = clean.argmax(axis=1) == labels
    smallest = rng.permutation(EXAMPLES) / EXAMPLES * 1.5 * budgets / 255
    of_model = {"dataset": "large", "model": model, "arch": "none", "recipe": "standard"}
    unchanged = ConditionResult(None, clean, np.zeros(EXAMPLES, bool), no_distance, forwards=EXAMPLES, seconds=1.0)
    infinite = np.full(EXAMPLES, np.inf, np.float32)
    yield CellResult(Cell(**of_model), f"{model}", Status.DONE, "", labels, clean, unchanged, infinite, Verdict.PASS)
    for attack in range(attacks):
        least = np.where(right, smallest * (1 + 0.1 * (attacks - attack)), 0).astype(np.float32)
        for budget in range(1, budgets + 1):
            eps = Fraction(budget, 255)
            success = right & (least <= float(eps))
            logits = np.where(success[:, None], np.roll(clean, 1, axis=1), clean)
            distance = np.where(success, least, 0).astype(np.float32)
            found = ConditionResult(eps, logits, success, distance, 0.0, forwards=EXAMPLES, backwards=EXAMPLES, seconds=1.0)
            cell = Cell(
                **of_model, condition="attack", attack=f"attack {attack}", norm="Linf", eps=eps, steps=10, protocol="nested"
            )
            digest = f"{model}/{attack}/{budget}"
            yield CellResult(
                cell, digest, Status.CACHED, "", labels, clean, found, np.where(success, least, np.inf), Verdict.PASS
            )


def _logits(labels: Floats, classes: int, rng: np.random.Generator) -> Floats:
    noise = rng.normal(0, 1, (len(labels), classes))
    return np.asarray(noise + 4 * np.eye(classes)[labels], dtype=np.float32)
