"""Runs a suite: plan, execute, collect, write the results."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.datasets.verified import compared_for_evaluation, read_evaluation_twice
from harness.errors import surviving_exits
from harness.evaluation.sanity import judge
from harness.executors.base import Interrupted, StepReport
from harness.executors.choice import LOCAL, Executor, executor_of
from harness.executors.recovery import unreadable, with_stored
from harness.images import ImageData
from harness.planning.plan import Plan, plan_of
from harness.records import FINISHED, CellResult, RunRecord, Status
from harness.reports.decision.files import write_decision
from harness.reports.files import check_writable
from harness.reports.load import check_own_results, is_results_folder, load_results
from harness.reports.names import model_label, texts_as_objects
from harness.reports.page.html import write_report
from harness.reports.tables.write import asserted_tables, write_tables
from harness.running.expectations import judge_expectations
from harness.running.finished import FinishedRun
from harness.running.kept import write_kept
from harness.running.poisons import detection_results, poisoned_sets, write_poisons
from harness.running.thumbnails import write_thumbnails
from harness.running.transfers import transfers_of
from harness.running.watching import announced
from harness.running.workspace import DEFAULT_RESULTS, STORE_FOLDER, device_or_name
from harness.steps.base import Context
from harness.steps.given import Given
from harness.steps.poison import TrainedModel
from harness.steps.train import WEIGHTS, Train
from harness.storage.provenance import describe_host
from harness.storage.store import Store
from harness.suites.base import BaseSuite, Variant
from harness.suites.suite import Suite, suite_json, with_models
from harness.system.children import refuse_unguarded
from harness.system.memory import quick_garbage_collection
from harness.system.modes import usual_torch
from harness.system.progress import Progress, Silent
from harness.system.remembered import STATISTICS, remembering

if TYPE_CHECKING:
    from torch import nn

TRACES = "errors.log"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """The results of a run, with their folder, and what went wrong."""

    folder: Path
    record: RunRecord
    seconds: float
    failures: tuple[str, ...] = ()
    """One line for each step that failed, and for those that did not run for the same reason."""
    interrupted: bool = False
    written: bool = True
    """Whether the results were written; where nothing finished, those of an earlier run stay."""
    requirements_met: bool = True
    """Whether every requirement of the suite is shown to be met; see requirements.csv."""

    @property
    def ok(self) -> bool:
        """Whether every step that can run has a result, every expectation holds and every requirement is met."""
        held = self.requirements_met and all(it.holds for it in self.record.expectations)
        return held and not self.failures and not self.interrupted


@usual_torch()
def run(
    suite: Suite,
    *,
    models: Mapping[str, nn.Module] | None = None,
    out: Path | None = None,
    store: Path | None = None,
    device: str = "auto",
    workers: int = 0,
    executor: str = LOCAL,
    jobs: int = 1,
    progress: Progress | None = None,
) -> RunSummary:
    """Runs what is missing of a suite and writes its results.

    Args:
        suite: The suite, from `load_suite`.
        models: Label -> network that is judged as it is, beside the suite's models or in place of one; see `with_models`.
        out: Folder of the results, by default results/<suite>.
        store: Folder of the finished steps, by default results/.store.
        device: "auto", "cpu", "cuda" or "cuda:1".
        workers: Processes that load images.
        executor: What runs the steps: "local", "ray", or an installed one.
        jobs: Steps that are computed at once; the local executor gives each a process if there are several.
        progress: Where to show progress, by default nowhere.

    Raises:
        HarnessError: if the data, a weights file or a device is missing, or the results cannot be written. A step that fails
            does not raise: its cells are marked failed.
    """
    refuse_unguarded()
    started, chosen = time.perf_counter(), executor_of(executor)
    suite = with_models(suite, models or {})
    data, plan = _planned(suite)
    context = Context(
        store=Store(store or DEFAULT_RESULTS / STORE_FOLDER),
        data=data,
        device=device_or_name(device),
        workers=workers,
        batch_size=suite.evaluation.batch_size,
        progress=progress or Silent(),
    )
    plan = plan.for_store(context.store)
    folder = out or DEFAULT_RESULTS / suite.name
    check_own_results(folder, suite.name)
    check_writable(folder)
    _check_before_computing(plan, context)
    reports, interrupted = _execute(plan, context, chosen, jobs=jobs, folder=folder)
    reports |= unreadable(plan.steps, context, reports)
    finished, seconds = FinishedRun(plan, context, reports), time.perf_counter() - started
    with remembering(folder / STATISTICS, "scipy"), quick_garbage_collection(), texts_as_objects():
        record = collect(finished, seconds=seconds)
        written = _is_worth_writing(record, folder)
        met = _write(record, finished, folder, with_page=not interrupted) if written else True
    _write_traces(finished, folder)
    failures = tuple(_failures(finished))
    return RunSummary(folder, record, seconds, failures=failures, interrupted=interrupted, written=written, requirements_met=met)


def _write(record: RunRecord, finished: FinishedRun, folder: Path, *, with_page: bool) -> bool:
    """Writes tables, decision and page; returns whether every requirement is met.

    Who stops a run waits for its tables only; `harness report` draws the rest from them.
    """
    write_tables(record, folder)
    write_poisons(finished, folder)
    write_kept(finished, folder)
    results = load_results(folder)
    met = write_decision(results).all_met
    if with_page:
        write_thumbnails(finished, folder)
        write_report(results)
    return met


def _planned(suite: Suite) -> tuple[ImageData, Plan]:
    """Returns a suite's data, compared whenever they are read again, and its plan on them."""
    with surviving_exits("the suite's data and networks"):
        data = compared_for_evaluation(suite.dataset.load())
        return data, plan_of(suite, data)


def _check_before_computing(plan: Plan, context: Context) -> None:
    """Raises before the first step what would end later ones: changing images, an unwritable store, missing devices or weights.

    A run of which every step is stored reads no image, and so does not import PyTorch.
    """
    if all(context.entry(step) is not None for step in plan.steps):
        return
    with surviving_exits("the suite's data"):
        read_evaluation_twice(context.data)
    context.store.check_writable()
    untrained = [step for step in plan.training.values() if isinstance(step, Train) and context.entry(step) is None]
    if untrained:
        from harness.training.processes import check_devices

        check_devices(plan.suite.devices, context.device)
    kinds = {(step.architecture.model_dump_json(), step.resolution): step for step in untrained if step.warm_start is None}
    for step in kinds.values():
        if step.architecture != step.architecture.without_weights():  # it needs a file, or a download
            with surviving_exits(step.title):
                step.architecture.build(context.data.class_names, resolution=step.resolution, seed=0)


def collect(run: FinishedRun, *, seconds: float) -> RunRecord:
    """Returns what the steps of a plan left in the store."""
    plan, context = run.plan, run.context
    results = tuple(map(run.result, plan.cells))
    transfers, transferred = transfers_of(run, results)
    examples, host = plan.examples.of(context.data), describe_host(context.device_or_name)
    done = {_label(plan.suite, variant): step for variant, step in plan.training.items() if run.finished(step)}
    trained = {label: step for label, step in done.items() if isinstance(step, Train)}
    record = RunRecord(
        suite=suite_json(plan.suite),
        cells=judge(results, transfers=transferred),
        class_names=context.data.class_names,
        example_ids=tuple(examples.ids),
        example_hashes=tuple(examples.hashes),
        histories={label: step.history(context) for label, step in trained.items()},
        trainings={label: step.summary(context) for label, step in trained.items()},
        poisoned=poisoned_sets(run),
        detections=detection_results(run),
        controls=tuple(map(run.result, plan.controls)),
        transfers=transfers,
        provenance={
            **host,
            "evaluation": {**host["evaluation"], **_form_of(plan.suite, results)},
            "seconds": seconds,
            "content_hash": context.data.content_hash,
            "cross_split_duplicates": context.data.cross_split_duplicates,
            "skipped_files": dict(context.data.skipped),
            "batch_sizes": sorted({int(size) for size in map(_batch_size, results) if size is not None}),
            "split_sizes": {name: len(split) for name, split in context.data.splits.items()},
            "steps": {step.digest: step.title for step in plan.steps},
            "models": {label: _judged_weights(step, context) for label, step in done.items()},
        },
    )
    if not plan.suite.expectations:  # the scores of a large grid take minutes, and the tables have them again
        return record
    cells, poisons = asserted_tables(record)
    return replace(record, expectations=judge_expectations(plan.suite.expectations, cells, poisons))


def _judged_weights(step: TrainedModel, context: Context) -> dict[str, str]:
    """Returns the step of a model, and the name and hash of the weights that were judged: of the file, where there is one."""
    if isinstance(step, Given):
        return {"given": step.digest, **step.judged_file}
    entry = context.entry(step)
    hashes = {} if entry is None else {"file": WEIGHTS, "sha256": str(entry.meta["files"][WEIGHTS])}
    return {"training": step.digest, **hashes}


def _form_of(suite: BaseSuite, results: Iterable[CellResult]) -> dict[str, Any]:
    """Returns the inference form that the suite asks for, and the number of rows in which attacks used another."""
    asked = {"compile": suite.evaluation.compile, "precision": suite.evaluation.precision}
    found = [result.condition.evidence for result in results if result.condition is not None]
    lost = sum(False in (it.compiled, it.bfloat16) for it in found)
    return {**asked, "rows_in_another_form": lost}


def _batch_size(result: CellResult) -> int | None:
    """Returns the images of a full batch of a condition, as far as that is known."""
    return None if result.condition is None else (result.condition.evidence.batch_size or None)


def _label(suite: BaseSuite, variant: Variant) -> str:
    """Returns what tables and pages call a model."""
    fields = {"model": variant.model, "poison": variant.poison, "poison_rate": variant.rate}
    return model_label({**fields, "seed": suite.seed_of(variant)})


def _execute(plan: Plan, context: Context, executor: Executor, *, jobs: int, folder: Path) -> tuple[dict[str, StepReport], bool]:
    """Returns a report a step, and whether the run was interrupted; `harness watch` of the folder follows it."""
    try:
        with announced(folder, plan, context):
            return executor(plan.steps, context, jobs=jobs), False
    except Interrupted as stopped:
        return with_stored(plan.steps, context, stopped.reports), True


def _is_worth_writing(record: RunRecord, folder: Path) -> bool:
    """Returns whether a run has results, or no earlier results to replace."""
    statuses = {cell.status for cell in record.cells}
    came_to_nothing = statuses.isdisjoint(FINISHED) and not statuses.isdisjoint((Status.FAILED, Status.NOT_RUN))
    return not (came_to_nothing and is_results_folder(folder))


def _failures(run: FinishedRun) -> Iterator[str]:
    """Yields one line for each step that failed, and one for all that did not run for the same reason."""
    idle: dict[str, list[str]] = {}
    for step in run.plan.steps:
        report = run.report(step)
        if report.status is Status.NOT_RUN:
            idle.setdefault(report.reason, []).append(step.title)
        elif report.status not in FINISHED:
            yield f"{step.title}: {report.reason}"
    for reason, titles in idle.items():
        others = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        yield f"{titles[0]}{others}: {reason}"


def _write_traces(run: FinishedRun, folder: Path) -> None:
    """Keeps the tracebacks of failed steps beside the tables; removes those of an earlier run."""
    traces = [(step, run.report(step).trace) for step in run.plan.steps]
    failed = [f"== {step.title} ({step.digest})\n{trace}" for step, trace in traces if trace]
    if failed:
        (folder / TRACES).write_text("\n".join(failed))
    else:
        (folder / TRACES).unlink(missing_ok=True)
