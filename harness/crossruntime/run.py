"""Cross-checks a suite: its trained models, exported, score the images that they were measured on, in every runtime."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from harness.bundle import read_bundle
from harness.crossruntime.compare import Rule
from harness.crossruntime.runtimes import INSTALL, OnnxCpp, OnnxPython, PyTorch, Runtime, find_program, open_logits_model
from harness.crossruntime.selection import bundling_of, variants_of
from harness.crossruntime.table import Scored, table_of
from harness.deployment import Workbench, model_files, open_workbench
from harness.entries import Precision
from harness.errors import StepFailed
from harness.export.metadata import Metadata, model_sha256
from harness.progress import Progress
from harness.reports.files import check_writable, write_text
from harness.reports.html import REPORT, render
from harness.reports.load import is_results_folder, load_results
from harness.reports.tables import write_csv
from harness.runner import DEFAULT_RESULTS
from harness.steps.bundle import Bundling
from harness.steps.export import ModelFile
from harness.steps.train import Train
from harness.suite import Suite, Variant

TABLE = "crossruntime.csv"
FORMATS: Mapping[Precision, str] = {"float32": "onnx", "int8": "int8", "fp16": "fp16"}
"""Precision -> format of the file."""
PRECISIONS: Mapping[str, Precision] = {"float32": "float32", "int8": "int8", "float16": "fp16"}
"""What a file says of itself -> precision."""


@dataclass(frozen=True)
class Crosscheck:
    """What every runtime made of the same images."""

    path: Path
    """The table as a file."""
    table: pd.DataFrame
    failures: tuple[str, ...] = ()
    """Model files and bundles that could not be made, one line each."""
    note: str = ""
    """What is missing, and what to install; empty if nothing is."""

    @property
    def agrees(self) -> bool:
        """Whether every runtime computes what PyTorch computes."""
        return not self.failures and bool(self.table["agrees"].dropna().all())


def crosscheck(
    suite: Suite,
    *,
    out: Path | None = None,
    store: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Crosscheck:
    """Scores the exported models of a suite on stored images, and writes crossruntime.csv and the report's page anew.

    Args:
        suite: The suite, from `load_suite`; its section `crosscheck` says what is scored.
        out: Folder of the results, by default results/<suite>.
        store: Folder of the finished steps, by default results/.store.
        device: Where attacks run: "auto", "cpu", "cuda" or "cuda:1". Models are scored on the CPU.
        progress: Where to show progress, by default nowhere.

    Raises:
        HarnessError: if a model is not trained yet, or HARNESS_EVAL names no program. A file that cannot be made, or
            that does not compute what PyTorch computes, does not raise: it is a failure of the cross-check.
    """
    bench, folder = open_workbench(suite, store=store, device=device, progress=progress), out or DEFAULT_RESULTS / suite.name
    models = {variant: bench.training(variant) for variant in variants_of(suite) if variant in bench.plan.training}
    program = find_program()
    check_writable(folder)
    failures: list[str] = []
    scored: list[Scored] = []
    for variant, model in models.items():
        files, bundling = _files_of(bench, variant), bundling_of(bench.plan, variant, bench.context.data.class_names)
        failures += bench.finish(*files.values(), bundling)
        if bench.context.entry(bundling) is not None:
            runtimes = _runtimes_of(bench, model, files=files, program=program)
            scored += _score(runtimes, bundling, label=model.label, bench=bench)
    table = table_of(scored)
    write_csv(table, folder / TABLE)
    if is_results_folder(folder):
        write_text(folder / REPORT, render(load_results(folder)))
    return Crosscheck(folder / TABLE, table, tuple(failures), "" if program else INSTALL)


def crosscheck_file(
    suite: Suite,
    path: Path,
    *,
    model: str | None = None,
    out: Path | None = None,
    store: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Crosscheck:
    """Scores a user's own ONNX file on the images that one model of a suite was measured on.

    Args:
        suite: The suite, from `load_suite`.
        path: The file: float images (N, 3, R, R) in [0,1] to logits (N, K).
        model: Name of the model; where it is left out the one that the file was exported from, else the suite's first.
        out: Folder of the results, by default results/<suite>; the table gets the name crossruntime_<file>.csv.
        store: Folder of the finished steps, by default results/.store.
        device: Where attacks run.
        progress: Where to show progress, by default nowhere.

    Raises:
        HarnessError: if the file is missing or damaged, does not fit the suite's classes or images, the model is
            unknown or not trained yet, or its images cannot be stored.
    """
    bench, folder = open_workbench(suite, store=store, device=device, progress=progress), out or DEFAULT_RESULTS / suite.name
    onnx = open_logits_model(path, len(bench.context.data.class_names))
    onnx.logits(np.full((1, 3, suite.dataset.resolution, suite.dataset.resolution), 0.5, np.float32))
    variant = suite.variant(model) if model else _origin(bench, onnx.metadata)
    label, program = bench.training(variant).label, find_program()
    bundling = bundling_of(bench.plan, variant, bench.context.data.class_names)
    check_writable(folder)
    if failures := bench.finish(bundling):
        raise StepFailed(failures[0])
    precision = PRECISIONS["float32" if onnx.metadata is None else onnx.metadata.precision]
    table = table_of(_score(_onnx_runtimes(path, precision, program), bundling, label=label, bench=bench))
    target = folder / f"crossruntime_{path.stem}.csv"
    write_csv(table, target)
    return Crosscheck(target, table, note="" if program else INSTALL)


def _files_of(bench: Workbench, variant: Variant) -> dict[Precision, ModelFile]:
    files = model_files(bench.plan, variant)
    return {precision: files[FORMATS[precision]] for precision in bench.plan.suite.crosscheck.formats}


def _runtimes_of(
    bench: Workbench, model: Train, *, files: Mapping[Precision, ModelFile], program: Path | None
) -> Iterator[tuple[Precision, Runtime]]:
    on_cpu = replace(bench.context, device=torch.device("cpu"))
    yield "float32", PyTorch(model.classifier(on_cpu))
    for precision, file in files.items():
        if bench.context.entry(file) is not None:
            yield from _onnx_runtimes(file.file(bench.context), precision, program)


def _onnx_runtimes(path: Path, precision: Precision, program: Path | None) -> Iterator[tuple[Precision, Runtime]]:
    yield precision, OnnxPython(path)
    if program is not None:
        yield precision, OnnxCpp(path, program)


def _score(runtimes: Iterable[tuple[Precision, Runtime]], bundling: Bundling, *, label: str, bench: Workbench) -> list[Scored]:
    entry, bundle = bench.plan.suite.crosscheck, read_bundle(bundling.file(bench.context))
    rule, wanted = Rule(entry.margin, entry.quantile_bound), list(runtimes)
    scored = []
    with bench.context.progress.task(f"score {label} in {len(wanted)} ways", len(wanted)) as advance:
        for precision, runtime in wanted:
            scored.append(Scored(label, runtime.NAME, precision, runtime.score(bundle, rule)))
            advance(1, f"{runtime.NAME}, {precision}")
    return scored


def _origin(bench: Workbench, metadata: Metadata | None) -> Variant:
    """Returns the model that a file was exported from; the suite's first one if it says nothing, or names another."""
    first, *_ = variants = list(bench.plan.training)
    if metadata is None:
        return first
    trained = (variant for variant in variants if bench.context.entry(bench.plan.training[variant]) is not None)
    return next((variant for variant in trained if _hash_of(variant, bench) == metadata.model_sha256), first)


def _hash_of(variant: Variant, bench: Workbench) -> str:
    return model_sha256(bench.plan.training[variant].classifier(bench.context).state_dict())
