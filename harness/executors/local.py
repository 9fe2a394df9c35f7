"""Runs a plan's steps on this machine, one after the other: finished ones are found, failed ones are recorded."""

import logging
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from harness.errors import HarnessError, StoreError
from harness.executors.base import StepReport
from harness.executors.schedule import schedule
from harness.records import Status
from harness.steps.base import Context, Step
from harness.storage.provenance import describe_host
from harness.system.children import refuse_unguarded
from harness.system.memory import quick_garbage_collection, reused_memory
from harness.system.precision import full_float32

logger = logging.getLogger(__name__)


@quick_garbage_collection()
@reused_memory()
def execute(steps: Iterable[Step], context: Context) -> dict[str, StepReport]:
    """Runs steps one after the other, each after those it depends on; see `harness.executors.schedule.schedule`.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM; it carries the reports so far.
    """
    refuse_unguarded()
    return schedule(steps, _Here(context), stored=partial(found, context=context))


@dataclass
class _Here:
    """This process: one step at a time."""

    context: Context
    step: Step | None = None

    @property
    def has_room(self) -> bool:
        """See `harness.executors.schedule.Place`."""
        return self.step is None

    def begin(self, step: Step) -> None:
        """Takes a step; `finished` computes it."""
        self.step = step

    def finished(self) -> Mapping[str, StepReport]:
        """Computes the step that was taken."""
        step, self.step = self.step, None
        return {} if step is None else {step.digest: computed(step, self.context)}


def found(step: Step, context: Context) -> StepReport | None:
    """Returns the report of a step that lies whole in the store; None where it is to be computed, as it is absent or damaged."""
    try:
        return StepReport(Status.CACHED) if _is_whole(step, context) else None
    except StoreError as error:
        return StepReport(Status.FAILED, str(error))


def computed(step: Step, context: Context) -> StepReport:
    """Computes a step whose inputs are finished, unless another run on the same store has it finished first.

    A damaged result of it is set aside.
    """
    started = time.perf_counter()
    try:
        with context.store.claimed(step.digest, step.title):
            if _is_whole(step, context):
                return StepReport(Status.CACHED)
            _set_aside(step, context)
            _compute(step, context)
    except (Exception, SystemExit) as error:  # the step boundary: recorded with its traceback
        return _failure(step, error, started)
    return StepReport(Status.DONE, seconds=time.perf_counter() - started)


def _is_whole(step: Step, context: Context) -> bool:
    """Returns whether a step is in the store, and not damaged there.

    Raises:
        StoreError: if it is there and cannot be read.
    """
    entry = context.entry(step)
    return entry is not None and not context.store.damaged_files(entry)


def _set_aside(step: Step, context: Context) -> None:
    if (entry := context.entry(step)) is not None:
        damaged = ", ".join(context.store.damaged_files(entry))
        place = context.store.set_aside(entry)
        logger.warning("%s: its stored result is damaged (%s): computed anew; the old one lies in %s", step.title, damaged, place)


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


def reason_of(error: BaseException) -> str:
    """Returns in one line why something failed; what the harness did not raise itself, with its type."""
    if isinstance(error, SystemExit):
        return f"SystemExit: expected a result, but sys.exit({'' if error.code is None else repr(error.code)}) was called"
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, HarnessError) else f"{type(error).__name__}: {lines[0]}"


def _failure(step: Step, error: BaseException, started: float) -> StepReport:
    reason = reason_of(error)
    logger.error("%s failed: %s", step.title, reason)
    return StepReport(Status.FAILED, reason, time.perf_counter() - started, traceback.format_exc())
