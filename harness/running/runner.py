"""Runs a suite: plan, execute, collect, write the results."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.datasets.verified import verified_for_evaluation
from harness.errors import StoreError, surviving_exits
from harness.evaluation.findings import Finding
from harness.evaluation.sanity import judge
from harness.executors.base import STOPPED_BEFORE, Interrupted, StepReport
from harness.executors.choice import LOCAL, Executor, executor_of
from harness.executors.recovery import unreadable, with_stored
from harness.planning.plan import Plan, PlannedCell, plan_of
from harness.records import FINISHED, CellResult, Outcome, RunRecord, Status
from harness.reports.files import check_writable
from harness.reports.load import check_own_results, is_results_folder
from harness.reports.names import model_label
from harness.reports.page.html import write_report
from harness.reports.tables.write import asserted_tables, write_tables
from harness.running.expectations import judge_expectations
from harness.running.poisons import detection_results, poisoned_sets, write_poisons
from harness.running.transfers import transfers_of
from harness.running.workspace import DEFAULT_RESULTS, STORE_FOLDER, resolve_device
from harness.steps.base import Context
from harness.storage.provenance import describe_host
from harness.storage.store import Store
from harness.suites.suite import Suite, Variant, suite_json
from harness.system.children import refuse_unguarded
from harness.system.modes import usual_torch
from harness.system.progress import Progress, Silent
from harness.training.processes import check_devices

TRACES = "errors.log"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """Where a run's results lie and how it went."""

    folder: Path
    record: RunRecord
    seconds: float
    failures: tuple[str, ...] = ()
    """One line for each step that failed, and for those that did not run for the same reason."""
    interrupted: bool = False
    written: bool = True
    """Whether the results were written; where nothing finished, those of an earlier run stay."""

    @property
    def ok(self) -> bool:
        """Whether every step that can run has a result and every expectation holds."""
        return not self.failures and not self.interrupted and all(it.holds for it in self.record.expectations)


@usual_torch()
def run(
    suite: Suite,
    *,
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
        out: Folder of the results, by default results/<suite>.
        store: Folder of the finished steps, by default results/.store.
        device: "auto", "cpu", "cuda" or "cuda:1".
        workers: Processes that load images.
        executor: What runs the steps: "local", or an installed one.
        jobs: Steps that are computed at once; the local executor gives each a process if there are several.
        progress: Where to show progress, by default nowhere.

    Raises:
        HarnessError: if the data, a weights file or a device is missing, or the results cannot be written. A step that fails
            does not raise: its cells are marked failed.
    """
    refuse_unguarded()
    started, chosen = time.perf_counter(), executor_of(executor)
    with surviving_exits("the suite's data and networks"):
        data = verified_for_evaluation(suite.dataset.load())
        plan = plan_of(suite, data)
    context = Context(
        store=Store(store or DEFAULT_RESULTS / STORE_FOLDER),
        data=data,
        device=resolve_device(device),
        workers=workers,
        batch_size=suite.evaluation.batch_size,
        progress=progress or Silent(),
    )
    folder = out or DEFAULT_RESULTS / suite.name
    check_own_results(folder, suite.name)
    check_writable(folder)
    _check_before_computing(plan, context)
    reports, interrupted = _execute(plan, context, chosen, jobs=jobs)
    reports |= unreadable(plan.steps, context, reports)
    seconds = time.perf_counter() - started
    record = collect(plan, context, reports, seconds=seconds)
    written = _is_worth_writing(record, folder)
    if written:
        write_tables(record, folder)
        write_poisons(plan, context, reports, folder)
        if not interrupted:  # who stops a run waits for its tables only; `harness report` draws the rest from them
            write_report(folder)
    _write_traces(plan, reports, folder)
    failures = tuple(_failures(plan, reports))
    return RunSummary(folder, record, seconds, failures=failures, interrupted=interrupted, written=written)


def _check_before_computing(plan: Plan, context: Context) -> None:
    """Finds out before the first step what would end later ones: a store, devices or weights that are not as they must be."""
    if any(context.entry(step) is None for step in plan.steps):
        context.store.check_writable()
    untrained = [step for step in plan.training.values() if context.entry(step) is None]
    if untrained:
        check_devices(plan.suite.devices, context.device)
    kinds = {(step.architecture.model_dump_json(), step.resolution): step for step in untrained if step.warm_start is None}
    for step in kinds.values():
        if step.architecture != step.architecture.without_weights():  # it needs a file, or a download
            with surviving_exits(step.title):
                step.architecture.build(context.data.class_names, resolution=step.resolution, seed=0)


def collect(plan: Plan, context: Context, reports: Mapping[str, StepReport], *, seconds: float) -> RunRecord:
    """Gathers what the steps of a plan left in the store."""
    result_of = partial(_result_of, context=context, reports=reports, outcomes={})
    results = tuple(map(result_of, plan.cells))
    transfers, transferred = transfers_of(plan, context, reports, results)
    examples, host = plan.examples.of(context.data), describe_host(context.device)
    trained = {
        _label(plan.suite, variant): step
        for variant, step in plan.training.items()
        if reports.get(step.digest, STOPPED_BEFORE).status in FINISHED
    }
    record = RunRecord(
        suite=suite_json(plan.suite),
        cells=judge(results, transfers=transferred),
        class_names=context.data.class_names,
        example_ids=tuple(examples.ids),
        example_hashes=tuple(examples.hashes),
        histories={label: step.history(context) for label, step in trained.items()},
        trainings={label: step.summary(context) for label, step in trained.items()},
        poisoned=poisoned_sets(plan, context, reports),
        detections=detection_results(plan, context, reports, result_of),
        twins=tuple(map(result_of, plan.twins)),
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
        },
    )
    cells, poisons = asserted_tables(record)
    return replace(record, expectations=judge_expectations(plan.suite.expectations, cells, poisons))


def _form_of(suite: Suite, results: Iterable[CellResult]) -> dict[str, Any]:
    """Returns in which form attacks differentiated the networks, and at how many rows that was not possible."""
    asked = {"compile": suite.evaluation.compile, "precision": suite.evaluation.precision}
    findings = [result.condition.findings for result in results if result.condition is not None]
    lost = sum(0.0 in (found.get(Finding.COMPILED), found.get(Finding.BFLOAT16)) for found in findings)
    return {**asked, "rows_in_another_form": lost}


def _batch_size(result: CellResult) -> float | None:
    """Returns the images of a full batch of a condition, as far as that is known."""
    return None if result.condition is None else result.condition.findings.get(Finding.BATCH_SIZE)


def _label(suite: Suite, variant: Variant) -> str:
    """Returns what tables and pages call a model."""
    fields = {"model": variant.model, "poison": variant.poison, "poison_rate": variant.rate}
    return model_label({**fields, "seed": suite.seed_of(variant)})


def _execute(plan: Plan, context: Context, executor: Executor, *, jobs: int) -> tuple[dict[str, StepReport], bool]:
    try:
        return executor(plan.steps, context, jobs=jobs), False
    except Interrupted as stopped:
        return with_stored(plan.steps, context, stopped.reports), True


def _result_of(
    cell: PlannedCell, context: Context, reports: Mapping[str, StepReport], outcomes: dict[str, Outcome]
) -> CellResult:
    if cell.step is None:
        return CellResult(cell.cell, cell.digest, Status.SKIPPED, cell.skip or "")
    report = reports.get(cell.step.digest, STOPPED_BEFORE)
    if report.status not in FINISHED:
        return CellResult(cell.cell, cell.digest, report.status, report.reason)
    if cell.step.digest not in outcomes:
        outcomes[cell.step.digest] = cell.step.outcome(context)
    outcome = outcomes[cell.step.digest]
    try:
        own = cell.step.judged(context) if cell.cell.kind.own_examples else None
    except StoreError as damage:  # of the poison, which a stored outcome does not need
        return CellResult(cell.cell, cell.digest, Status.FAILED, str(damage))
    return CellResult(
        cell.cell,
        cell.digest,
        report.status,
        labels=outcome.labels,
        clean_logits=outcome.clean_logits,
        condition=outcome.conditions[cell.position],
        smallest_eps=outcome.smallest_eps,
        example_ids=None if own is None else tuple(own.ids),
        example_hashes=None if own is None else tuple(own.hashes),
    )


def _is_worth_writing(record: RunRecord, folder: Path) -> bool:
    """Tells whether a run has anything to put in place of an earlier run's results."""
    statuses = {cell.status for cell in record.cells}
    came_to_nothing = statuses.isdisjoint(FINISHED) and not statuses.isdisjoint((Status.FAILED, Status.NOT_RUN))
    return not (came_to_nothing and is_results_folder(folder))


def _failures(plan: Plan, reports: Mapping[str, StepReport]) -> Iterator[str]:
    """Yields one line for each step that failed, and one for all that did not run for the same reason."""
    idle: dict[str, list[str]] = {}
    for step in plan.steps:
        report = reports.get(step.digest, STOPPED_BEFORE)
        if report.status is Status.NOT_RUN:
            idle.setdefault(report.reason, []).append(step.title)
        elif report.status not in FINISHED:
            yield f"{step.title}: {report.reason}"
    for reason, titles in idle.items():
        others = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        yield f"{titles[0]}{others}: {reason}"


def _write_traces(plan: Plan, reports: Mapping[str, StepReport], folder: Path) -> None:
    """Keeps the tracebacks of failed steps beside the tables; removes those of an earlier run."""
    known = [(step, reports[step.digest].trace) for step in plan.steps if step.digest in reports]
    failed = [f"== {step.title} ({step.digest})\n{trace}" for step, trace in known if trace]
    if failed:
        (folder / TRACES).write_text("\n".join(failed))
    else:
        (folder / TRACES).unlink(missing_ok=True)
