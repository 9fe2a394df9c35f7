"""A grid of hundreds of thousands of cells: what the verbs take on its suite, and on a store of made-up results of its steps."""

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.cli.console import show_table, stderr
from harness.evaluation.settings import SweepSettings
from harness.planning.plan import plan_of
from harness.records import ConditionResult, Outcome
from harness.records.evidence import Evidence
from harness.steps.base import Context, Step
from harness.steps.evaluate import Sweep
from harness.steps.judgement import OUTCOME, Judgement
from harness.steps.train import HISTORY, SUMMARY, WEIGHTS, Train
from harness.storage.store import Store, write_json
from harness.suites.files import load_suite
from tests.bench.processes import Spent, spent_by

EXAMPLES = 20
"""Examples that are judged: few, so that the tables and not the numbers in them are what takes time."""
MEGABYTE = 2**20
HISTORY_OF_ALL = [
    {"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.9, "validation_accuracy": 0.9, "validation_loss": 0.4}
    | {"predicted_classes": 10, "seconds": 1.0, "attack_share": 0.0, "learning_rate": 0.001}
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this part."""
    group = parser.add_argument_group("grid")
    group.add_argument("--grid-models", type=int, nargs="*", default=[10, 100, 1000], help="models; a grid for each number")
    for name, count in {"attacks": 20, "budgets": 10}.items():
        group.add_argument(f"--grid-{name}", type=int, default=count, help=f"{name} of the grid")
    group.add_argument("--grid-only-plan", action="store_true", help="leave out the results")


def show_grid(options: argparse.Namespace) -> None:
    """Measures and prints, for each number of models."""
    for models in options.grid_models:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_suite(folder / "suite.yaml", models, options.grid_attacks, options.grid_budgets)
            verbs = _verbs_of_suite(folder) | ({} if options.grid_only_plan else _verbs_of_results(folder))
            rows = []
            for name, command in verbs.items():
                spent = spent_by(command, {})
                rows.append((name, *_texts(spent)))
                stderr.print(*rows[-1])
            sizes = {} if options.grid_only_plan else _sizes(folder)
        sides = f"{models:,} models x {options.grid_attacks} attacks x {options.grid_budgets} budgets"
        show_table(f"{sides}, {EXAMPLES} examples", ["command", "wall s", "processor s", "MiB at most"], rows)
        if sizes:
            show_table("What lies on the disk", ["what", "files", "MiB"], [(name, *size) for name, size in sizes.items()])


def write_suite(path: Path, models: int, attacks: int, budgets: int) -> None:
    """Writes the suite as a program would: every model and attack in full, no anchor, no alias."""
    recipes = [{"name": "standard", "epochs": 1 + number, "batch_size": 64} for number in range(models)]
    suite: dict[str, Any] = {
        "schema_version": 1,
        "name": "grid",
        "dataset": {"name": "digits", "resolution": 32},
        "architecture": {"name": "timm", "arch": "test_efficientnet.r160_in1k", "mean": [0.5] * 3, "std": [0.5] * 3},
        "models": {f"model-{number:04}": {"recipe": recipe} for number, recipe in enumerate(recipes)},
        "threat_model": {"norm": "Linf", "eps": [f"{1 + budget}/255" for budget in range(budgets)]},
        "attacks": {f"pgd-{1 + steps}": {"name": "pgd", "steps": 1 + steps} for steps in range(attacks)},
        "evaluation": {"limit": EXAMPLES},
    }
    path.write_text(yaml.safe_dump(suite, sort_keys=False))


def _verbs_of_suite(folder: Path) -> dict[str, list[str]]:
    suite, store = str(folder / "suite.yaml"), str(folder / "store")
    return {
        "harness validate": ["-m", "harness", "validate", suite],
        "harness plan": ["-m", "harness", "plan", suite, "--store", store],
    }


def _verbs_of_results(folder: Path) -> dict[str, list[str]]:
    suite, store, out = (str(folder / name) for name in ("suite.yaml", "store", "results"))
    stored = ["--store", store]
    return {
        "(a store of made-up results)": ["-c", f"from tests.bench.grid import fill; fill({suite!r}, {store!r})"],
        "harness plan, all stored": ["-m", "harness", "plan", suite, *stored],
        "harness run, all stored": ["-m", "harness", "run", suite, *stored, "--out", out],
        "harness run again": ["-m", "harness", "run", suite, *stored, "--out", out],
        "harness report": ["-m", "harness", "report", out],
        "harness decide": ["-m", "harness", "decide", out],
        "harness leaderboard": ["-m", "harness", "leaderboard", out, "--out", str(folder / "board.csv"), "--html"],
        "harness verify RESULTS": ["-m", "harness", "verify", out, *stored],
        "harness verify SUITE": ["-m", "harness", "verify", suite, *stored],
        "harness gc": ["-m", "harness", "gc", out, *stored],
        "(a run that was killed)": ["-c", f"from tests.bench.grid import announce; announce({suite!r}, {store!r}, {out!r})"],
        "harness watch --once": ["-m", "harness", "watch", out, "--once"],
        "harness show CELL": ["-c", f"from tests.bench.grid import show_last_cell; show_last_cell({out!r}, {store!r})"],
    }


def fill(suite: str, store: str) -> None:
    """Writes a made-up result of every step of a suite into a store; attacks succeed on more examples at larger budgets."""
    loaded = load_suite(suite)
    data = loaded.dataset.load()
    plan = plan_of(loaded, data)
    labels = np.asarray(plan.examples.of(data).labels, np.int64)
    place = Store(Path(store))
    for number, step in enumerate(plan.steps):
        with place.writing(step.KIND, step.digest, {"title": step.title, "spec": step.spec(), "created": ""}) as folder:
            _write_result(step, folder, labels, len(data.class_names), np.random.default_rng(number))


def _write_result(step: Step, folder: Path, labels: np.ndarray, classes: int, rng: np.random.Generator) -> None:
    from harness.storage.outcomes import save_outcome

    if isinstance(step, Train):
        (folder / WEIGHTS).write_bytes(b"made up")
        write_json(folder / HISTORY, {"epochs": HISTORY_OF_ALL})
        write_json(folder / SUMMARY, {"best_epoch": 1})
    elif isinstance(step, Judgement):
        save_outcome(_outcome(step.settings if isinstance(step, Sweep) else None, labels, classes, rng), folder / OUTCOME)


def _outcome(settings: SweepSettings | None, labels: np.ndarray, classes: int, rng: np.random.Generator) -> Outcome:
    """Returns what a network of four in five right answers gives, clean or under a nested sweep."""
    clean = (3 * np.eye(classes)[labels] + rng.normal(0, 0.1, (len(labels), classes))).astype(np.float32)
    wrong = np.arange(len(labels)) % 5 == 4
    clean[wrong] = np.roll(clean[wrong], 1, axis=1)
    nothing = np.zeros(len(labels), np.float32)
    if settings is None:
        unchanged = ConditionResult(None, clean, np.zeros(len(labels), bool), nothing, forwards=len(labels), seconds=0.1)
        return Outcome(labels, clean, (unchanged,), np.full(len(labels), np.inf, np.float32))
    budgets = [threat.eps for threat in settings.threat_models]
    smallest = np.where(wrong, np.inf, rng.uniform(0, 2 * float(budgets[-1]), len(labels))).astype(np.float32)
    conditions = tuple(_attacked(eps, clean, smallest) for eps in budgets)
    return Outcome(labels, clean, conditions, smallest)


def _attacked(eps: Fraction, clean: np.ndarray, smallest: np.ndarray) -> ConditionResult:
    found = smallest <= float(eps)
    logits = np.where(found[:, None], np.roll(clean, 1, axis=1), clean)
    distance = np.where(found, smallest, 0).astype(np.float32)
    evidence = Evidence(access="iterative", attacked=int((~found).sum()), batch_size=len(clean), returned=len(clean))
    passes = {"forwards": 10 * len(clean), "backwards": 10 * len(clean)}
    return ConditionResult(eps, logits, found, distance, **passes, seconds=0.1, evidence=evidence)


def announce(suite: str, store: str, out: str) -> None:
    """Leaves in a results folder what a run says of itself that was killed, as `harness watch` finds it."""
    from harness.running.watching import RUN_FILE, announced

    loaded = load_suite(suite)
    data = loaded.dataset.load()
    with announced(Path(out), plan_of(loaded, data), Context(Store(Path(store)), data, device="cpu")):
        record = (Path(out) / RUN_FILE).read_text()
    (Path(out) / RUN_FILE).write_text(record)


def show_last_cell(out: str, store: str) -> None:
    """Shows the last cell of a results folder by the first digits of its digest."""
    digest = (Path(out) / "cells.csv").read_text().rstrip().rpartition(",")[2][:12]
    subprocess.run([sys.executable, "-m", "harness", "show", digest, "--store", store], check=True, stdout=subprocess.DEVNULL)


def _texts(spent: Spent) -> tuple[str, str, str]:
    return f"{spent.wall:.1f}", f"{spent.processor:.1f}", f"{spent.memory:,.0f}"


def _sizes(folder: Path) -> dict[str, tuple[str, str]]:
    """Returns the number and the size of the files in the store and in the results, and of the largest ones."""
    whole = {"store": folder / "store", "results": folder / "results"}
    names = ("confusion", "roc", "curves", "report.html", "cells.csv", "per_class.csv", "before_after.csv", "sweep.csv")
    parts = {f"results/{name}": folder / "results" / name for name in (*names, "samples.parquet", "provenance.json")}
    return {name: _size(path) for name, path in (whole | parts).items()}


def _size(path: Path) -> tuple[str, str]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"{len(files):,}", f"{sum(file.stat().st_size for file in files) / MEGABYTE:,.1f}"
