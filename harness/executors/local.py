"""Runs a plan's steps on this machine, one after the other: finished ones are found, failed ones are recorded."""

import logging
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

from harness.errors import HarnessError, StoreError
from harness.records import Status
from harness.steps.base import Context, Step
from harness.storage.provenance import describe_host
from harness.storage.store import Entry
from harness.system.memory import quick_garbage_collection, reused_memory
from harness.system.precision import full_float32

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepReport:
    """What became of one step."""

    status: Status
    reason: str = ""
    """One line, where the step has no result."""
    seconds: float = 0.0
    trace: str = field(default="", repr=False)
    """The traceback of a failed step."""


STOPPED_BEFORE = StepReport(Status.NOT_RUN, "not run: stopped before")
"""Of the steps that an interrupted run did not reach."""


@quick_garbage_collection()
@reused_memory()
def execute(steps: Iterable[Step], context: Context) -> dict[str, StepReport]:
    """Runs steps in the given order, each after those it depends on.

    A failed step marks what depends on it as not run, and the rest goes on.

    Returns:
        Digest -> what became of that step. After Ctrl-C the steps not reached are missing, as `Interrupted` tells.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM; it carries the reports so far.
    """
    reports: dict[str, StepReport] = {}
    ordered = list(steps)
    for number, step in enumerate(ordered, start=1):
        try:
            if context.entry(step) is None:
                logger.info("%d of %d: %s", number, len(ordered), step.title)
            reports[step.digest] = settled(step, context, reports) or computed(step, context)
        except KeyboardInterrupt as interrupt:
            raise Interrupted(reports) from interrupt
    return reports


class Interrupted(Exception):
    """The run was stopped by its user; what is finished is in the store."""

    def __init__(self, reports: Mapping[str, StepReport]) -> None:
        """Keeps the reports of the steps that were reached."""
        super().__init__("stopped; what is finished is kept, and the same command goes on from here")
        self.reports = dict(reports)


def settled(step: Step, context: Context, reports: Mapping[str, StepReport]) -> StepReport | None:
    """Returns what became of a step that is not to be computed, as it is in the store or lacks an input; else None."""
    if (entry := context.entry(step)) is not None:
        return _found(entry, context)
    broken = [needed.title for needed in step.inputs.values() if reports[needed.digest].reason]
    return StepReport(Status.NOT_RUN, f"not run: {broken[0]} did not finish") if broken else None


def computed(step: Step, context: Context) -> StepReport:
    """Computes a step whose inputs are finished, unless another run on the same store has it finished first."""
    started = time.perf_counter()
    try:
        with context.store.claimed(step.digest, step.title):
            if (entry := context.entry(step)) is not None:
                return _found(entry, context)
            _compute(step, context)
    except Exception as error:  # the step boundary: recorded with its traceback
        return _failure(step, error, started)
    return StepReport(Status.DONE, seconds=time.perf_counter() - started)


def _found(entry: Entry, context: Context) -> StepReport:
    """Returns whether a stored result is whole; one that is damaged is not silently computed again."""
    try:
        damaged = context.store.damaged_files(entry)
    except StoreError as error:
        damaged = [str(error)]
    if not damaged:
        return StepReport(Status.CACHED)
    return StepReport(Status.FAILED, f"its stored result is damaged ({damaged[0]}); delete {entry.path} to compute it anew")


def _compute(step: Step, context: Context) -> None:
    started = time.perf_counter()
    step.expect_same_data(context)
    with full_float32() if step.FULL_FLOAT32 else nullcontext():
        meta: dict[str, object] = {"title": step.title, "spec": step.spec(), **describe_host(context.device)}
        with context.store.writing(step.KIND, step.digest, meta) as folder:
            step.run(context, folder)
            step.expect_same_data(context)
            meta["seconds"] = time.perf_counter() - started
    context.store.drop_partial(step.digest)


def reason_of(error: Exception) -> str:
    """Returns in one line why something failed; what the harness did not raise itself, with its type."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, HarnessError) else f"{type(error).__name__}: {lines[0]}"


def _failure(step: Step, error: Exception, started: float) -> StepReport:
    reason = reason_of(error)
    logger.error("%s failed: %s", step.title, reason)
    return StepReport(Status.FAILED, reason, time.perf_counter() - started, traceback.format_exc())
