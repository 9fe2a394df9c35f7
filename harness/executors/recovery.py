"""Reports from the store alone: of steps that an executor did not reach, and of results that cannot be read."""

import time
import traceback
from collections.abc import Iterable, Mapping

from harness.errors import StoreError
from harness.executors.base import STOPPED_BEFORE, StepReport
from harness.executors.local import found, reason_of
from harness.records import Status
from harness.steps.base import Context, Step
from harness.steps.detect import Detect
from harness.steps.judgement import Judgement
from harness.steps.poison import Poisoning
from harness.steps.train import Train
from harness.steps.transfer import Transfer

LONGEST_CHECK = 1.0
"""Seconds that a user who stops a run waits for stored results to be compared with their hashes."""


def with_stored(steps: Iterable[Step], context: Context, reports: Mapping[str, StepReport]) -> dict[str, StepReport]:
    """Returns the reports of an interrupted run, and those of the stored steps that it did not reach.

    Args:
        steps: All steps of the run.
        context: Where they are stored.
        reports: Digest -> what became of the steps that were reached.
    """
    known, latest = dict(reports), time.monotonic() + LONGEST_CHECK
    for step in steps:
        if step.digest not in known:
            try:
                report = _stored(step, context, in_time=time.monotonic() < latest)
            except StoreError as error:
                report = StepReport(Status.FAILED, reason_of(error))
            known |= {} if report is None else {step.digest: report}
    return known


def _stored(step: Step, context: Context, *, in_time: bool) -> StepReport | None:
    """Returns the report of a stored step, whose files are checked where there is time for it; None where it is not stored."""
    if context.entry(step) is None:
        return None
    return found(step, context) if in_time else StepReport(Status.CACHED)


def unreadable(steps: Iterable[Step], context: Context, reports: Mapping[str, StepReport]) -> dict[str, StepReport]:
    """Returns the reports of stored steps that cannot be read although their hashes are right: they have failed.

    Args: see `with_stored`.
    """
    lost: dict[str, StepReport] = {}
    for step in steps:
        if reports.get(step.digest, STOPPED_BEFORE).status is Status.CACHED:
            try:
                _read(step, context)
            except Exception as error:  # a reader raises many types on a file that is not what it should be
                path = context.store.root / step.KIND / step.digest
                reason = f"its stored result cannot be read ({reason_of(error)}); delete {path} to compute it anew"
                lost[step.digest] = StepReport(Status.FAILED, reason, trace=traceback.format_exc())
    return lost


def _read(step: Step, context: Context) -> None:
    """Reads the part of a finished step's result that the tables need."""
    match step:
        case Judgement():
            step.outcome(context)
        case Train():
            step.summary(context)
        case Poisoning():
            step.manifest(context)
        case Detect():
            step.score(context)
        case Transfer():
            step.wrong(context)
