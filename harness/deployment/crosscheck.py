"""The cross-check: a suite's exported models score the images that they were measured on, in every runtime."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from harness.bundle import Bundle, read_bundle
from harness.deployment.agreement import Rule
from harness.deployment.runtimes import PyTorch, Runtime, find_program, how_to_install, open_logits_model
from harness.deployment.scoring import Scores, is_attacked_network, onnx_runtimes
from harness.deployment.selection import bundling_of, model_files, variants_of
from harness.deployment.table import clipped_lines, is_transfer, table_of
from harness.errors import HarnessError, StepFailed
from harness.export.metadata import model_sha256
from harness.export.runtime import OnnxModel
from harness.reports.decision.files import write_decision
from harness.reports.files import check_writable, write_text
from harness.reports.load import is_results_folder, load_results
from harness.reports.page.html import REPORT, render
from harness.reports.tables.write import write_csv
from harness.running.workspace import DEFAULT_RESULTS, Workbench, open_workbench
from harness.steps.export import ModelFile
from harness.steps.poison import TrainedModel
from harness.suites.base import Variant
from harness.suites.entries import Precision
from harness.suites.suite import Suite
from harness.system.progress import Progress, Silent

TABLE = "crossruntime.csv"
FORMATS: Mapping[Precision, str] = {"float32": "onnx", "int8": "int8", "fp16": "fp16"}
"""Precision -> format of the file."""
PRECISIONS: Mapping[str, Precision] = {"float32": "float32", "int8": "int8", "float16": "fp16"}
"""Precision in a file's metadata -> precision."""


Judge = Literal["auto", "always", "never"]
"""Whether the bundle's logits are expected of a user's file; auto: unless it is, or may be, another model."""
JUDGES: tuple[Judge, ...] = ("auto", "always", "never")
UNJUDGED = "agreement is not judged: the file is, or may be, another model than the images' own; --judge always judges it"
TRANSFERRED = (
    "transfer accuracy: the attacked images were made against another network ({}); an attack on this one may leave less"
)
COARSER = (
    "int8, fp16: the attacked images were made on the float network; they say nothing about an attacker who knows these files,"
    " and who may leave less"
)
OWN_FILE = "crossruntime_{}.csv"
"""Name of the table of a user's file, by the file's own."""


@dataclass(frozen=True)
class Crosscheck:
    """The scores of every runtime on the same images."""

    path: Path
    """The table as a file."""
    table: pd.DataFrame
    failures: tuple[str, ...] = ()
    """Model files and bundles that could not be made or scored, one line each."""
    note: str = ""
    """What is missing, and what to install or to ask for; empty if nothing is."""
    bundles: Mapping[str, Path] = field(default_factory=dict)
    """The stored images by the model's label: what `harness_eval score --bundle` takes."""

    @property
    def agrees(self) -> bool:
        """Whether every runtime computes what PyTorch computes, as far as that is judged."""
        return not self.failures and bool(self.table["agrees"].dropna().all())


def crosscheck(
    suite: Suite,
    *,
    out: Path | None = None,
    store: Path | None = None,
    device: str = "auto",
    timeout: float | None = None,
    progress: Progress | None = None,
) -> Crosscheck:
    """Scores the exported models of a suite on stored images, and writes crossruntime.csv and the report's page anew.

    Args:
        suite: The suite, from `load_suite`; its section `crosscheck` says what is scored.
        out: Folder of the results, by default results/<suite>.
        store: Folder of the finished steps, by default results/.store.
        device: Where attacks run: "auto", "cpu", "cuda" or "cuda:1". Models are scored on the CPU.
        timeout: Seconds that one runtime may take for one file, or None for any time.
        progress: Where to show progress, by default nowhere.

    Raises:
        HarnessError: if a model is not trained yet, or HARNESS_EVAL names no program. A file that cannot be made or
            scored, or that does not compute what PyTorch computes, does not raise: it is a failure of the cross-check.
    """
    bench, folder = open_workbench(suite, store=store, device=device, progress=progress), out or DEFAULT_RESULTS / suite.name
    models = {variant: bench.training(variant) for variant in variants_of(suite) if variant in bench.plan.training}
    check_writable(folder)
    program, scores = find_program(), Scores(_rule_of(suite), bench.context.progress)
    bundles: dict[str, Path] = {}
    for variant, model in models.items():
        files, bundling = _files_of(bench, variant), bundling_of(bench.plan, variant, bench.context.data.class_names)
        scores.failures.extend(bench.finish(*files.values(), bundling))
        if bench.context.entry(bundling) is not None:
            bundles[model.label] = bundling.file(bench.context)
            runtimes = _runtimes_of(bench, model, files=files, start=partial(onnx_runtimes, program=program, timeout=timeout))
            scores.add(model.label, bundles[model.label], runtimes)
    table = table_of(scores.scored)
    write_csv(table, folder / TABLE)
    if is_results_folder(folder):
        write_decision(results := load_results(folder))
        write_text(folder / REPORT, render(results))
    coarser = bool((table["norm"].notna() & (table["precision"] != "float32")).any())
    note = "\n".join((*[COARSER] * coarser, *clipped_lines(table), *([how_to_install()] if program is None else [])))
    return Crosscheck(folder / TABLE, table, tuple(scores.failures), note, bundles)


def crosscheck_file(
    suite: Suite,
    path: Path,
    *,
    model: str | None = None,
    judge: Judge = "auto",
    out: Path | None = None,
    store: Path | None = None,
    device: str = "auto",
    timeout: float | None = None,
    progress: Progress | None = None,
) -> Crosscheck:
    """Scores a user's own ONNX file on the images that one model of a suite was measured on.

    Args:
        suite: The suite, from `load_suite`.
        path: The file: float images (N, 3, R, R) in [0,1] to logits (N, K).
        model: Name of the model; where it is left out the one that the file was exported from, else the suite's first.
        judge: Whether that model's logits are expected; auto: where the model was named, or the file says that it is it.
        out: Folder of the results, by default results/<suite>; the table gets the name crossruntime_<file>.csv.
        store: Folder of the finished steps, by default results/.store.
        device: Where attacks run.
        timeout: Seconds that one runtime may take for one file, or None for any time.
        progress: Where to show progress, by default nowhere.

    Raises:
        HarnessError: if the file is missing or damaged, does not fit the suite's classes or images, the model is
            unknown or not trained yet, its images cannot be stored, or no runtime can score them.
    """
    bench, folder = open_workbench(suite, store=store, device=device, progress=progress), out or DEFAULT_RESULTS / suite.name
    onnx = open_logits_model(path, bench.context.data.class_names, timeout=timeout)
    onnx.logits(np.full((1, 3, suite.dataset.resolution, suite.dataset.resolution), 0.5, np.float32))
    variant = suite.variant(model) if model else _origin(bench, onnx.model_sha256)
    label, bundling = bench.training(variant).label, bundling_of(bench.plan, variant, bench.context.data.class_names)
    check_writable(folder)
    if failures := bench.finish(bundling):
        raise StepFailed(failures[0])
    bundle = read_bundle(bundling.file(bench.context))
    own = model is not None or onnx.model_sha256 == bundle.model_sha256
    rule = replace(_rule_of(suite), expects_reference=_expected(judge, own=own))
    target = folder / OWN_FILE.format(path.stem)
    scores = Scores(rule, bench.context.progress)
    return _score_file(onnx, bundle, scores, label=label, target=target, timeout=timeout)


def crosscheck_bundle(
    bundle_path: Path,
    path: Path,
    *,
    judge: Judge = "auto",
    rule: Rule | None = None,
    out: Path | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> Crosscheck:
    """Scores a user's own ONNX file on the images of a bundle: neither suite, nor data, nor trained model is needed.

    Args:
        bundle_path: The bundle; one without logits gives accuracies and no agreement.
        path: The file: float images (N, C, H, W) in [0,1] to logits (N, K).
        judge: Whether the bundle's logits are expected; auto: unless the file says that it is another model.
        rule: The rule of agreement.
        out: Folder of the table crossruntime_<file>.csv, by default results.
        timeout: Seconds that one runtime may take for one file, or None for any time.
        progress: Where to show progress, by default nowhere.

    Raises:
        HarnessError: if one of the two is missing or damaged, they do not fit, or no runtime can score them.
    """
    bundle = read_bundle(bundle_path)
    onnx = open_logits_model(path, bundle.class_names, timeout=timeout)
    onnx.logits(np.full((1, *bundle.conditions[0].shape), 0.5, np.float32))
    own = onnx.model_sha256 is None or not bundle.model_sha256 or onnx.model_sha256 == bundle.model_sha256
    rule = replace(rule or Rule(), expects_reference=_expected(judge, own=own))
    target = (out or DEFAULT_RESULTS) / OWN_FILE.format(path.stem)
    scores = Scores(rule, progress or Silent())
    return _score_file(onnx, bundle, scores, label=bundle.model, target=target, timeout=timeout)


def _score_file(
    onnx: OnnxModel, bundle: Bundle, scores: Scores, *, label: str, target: Path, timeout: float | None
) -> Crosscheck:
    precision = PRECISIONS["float32" if onnx.metadata is None else onnx.metadata.precision]
    check_writable(target.parent)
    program = find_program()
    scores.add(onnx.path.stem, bundle.path, onnx_runtimes(onnx.path, precision, program=program, timeout=timeout))
    if not scores.scored:
        raise HarnessError(scores.failures[0])
    made_against = None if is_attacked_network(onnx, bundle, scores.scored) else label or "unnamed"
    table = table_of(scored._replace(made_against=made_against) for scored in scores.scored)
    write_csv(table, target)
    transferred = TRANSFERRED.format(made_against) if is_transfer(table) else ""
    notes = (
        "" if scores.rule.expects_reference else UNJUDGED,
        transferred,
        *clipped_lines(table),
        "" if program else how_to_install(),
    )
    return Crosscheck(target, table, tuple(scores.failures), "\n".join(filter(None, notes)), {label: bundle.path})


def expect_judge(text: str) -> Judge:
    """Returns a typed word as one of the known ones.

    Raises:
        HarnessError: if it is another one.
    """
    for judge in JUDGES:
        if text == judge:
            return judge
    raise HarnessError(f"--judge: expected {', '.join(JUDGES)}, got {text!r}")


def _expected(judge: Judge, *, own: bool) -> bool:
    return judge == "always" or (judge == "auto" and own)


def _rule_of(suite: Suite) -> Rule:
    return Rule(suite.crosscheck.margin, suite.crosscheck.quantile_bound)


def _files_of(bench: Workbench, variant: Variant) -> dict[Precision, ModelFile]:
    files = model_files(bench.plan, variant)
    return {precision: files[FORMATS[precision]] for precision in bench.plan.suite.crosscheck.formats}


_Start = Callable[[Path, Precision], Iterator[tuple[Precision, Runtime]]]
"""What gives the runtimes of one ONNX file."""


def _runtimes_of(
    bench: Workbench, model: TrainedModel, *, files: Mapping[Precision, ModelFile], start: _Start
) -> Iterator[tuple[Precision, Runtime]]:
    on_cpu = replace(bench.context, device=torch.device("cpu"))
    yield "float32", PyTorch(model.classifier(on_cpu))
    for precision, file in files.items():
        if bench.context.entry(file) is not None:
            yield from start(file.file(bench.context), precision)


def _origin(bench: Workbench, sha256: str | None) -> Variant:
    """Returns the model that a file was exported from; the suite's first one if it says nothing, or names another."""
    first, *_ = variants = list(bench.plan.training)
    if sha256 is None:
        return first
    trained = (variant for variant in variants if bench.context.entry(bench.plan.training[variant]) is not None)
    return next((variant for variant in trained if _hash_of(variant, bench) == sha256), first)


def _hash_of(variant: Variant, bench: Workbench) -> str:
    return model_sha256(bench.plan.training[variant].classifier(bench.context).state_dict())
