"""The order in which steps begin; a place computes them: this process, a pool of processes, a cluster.

Another executor is a `Place` and a function that hands it to `schedule`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from harness.errors import StoreError
from harness.executors.base import Interrupted, StepReport
from harness.records import FINISHED, Status
from harness.steps.base import Step
from harness.system.full_disk import GOES_ON, says_disk_is_full

logger = logging.getLogger(__name__)


class Place(Protocol):
    """Where steps are computed."""

    @property
    def has_room(self) -> bool:
        """Whether another step can begin; always true while none is being computed."""
        ...

    def begin(self, step: Step) -> None:
        """Takes a step whose inputs are finished; called only if there is room."""
        ...

    def finished(self) -> Mapping[str, StepReport]:
        """Waits for news, and returns digest -> report of the steps that have ended since, perhaps none.

        A step that cannot be computed is a report too, never an error.
        """
        ...


def schedule(steps: Iterable[Step], place: Place, *, stored: Callable[[Step], StepReport | None]) -> dict[str, StepReport]:
    """Runs steps and returns their reports: stored ones are found, each other one begins once those it depends on are finished.

    Among several that can begin, the given order decides. A step that depends on a failed one is not run; the rest goes on.

    Args:
        steps: The steps, each after all those it depends on. An input that is not among them is taken for finished.
        place: Where to compute.
        stored: Returns the report of a step that need not be computed, else None.

    Returns:
        Digest -> what became of that step.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM; it carries the reports so far.
        StoreError: if the disk is full: no other step could be kept either.
    """
    planned = {step.digest: step for step in steps}
    reports: dict[str, StepReport] = {}
    try:
        for step in planned.values():
            if (report := stored(step)) is not None:
                reports[step.digest] = report
        missing = [step for step in planned.values() if step.digest not in reports]
        _Computing(place, planned, reports, total=len(missing)).run(missing)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(reports) from interrupt
    return reports


@dataclass
class _Computing:
    """The computation of the steps that are not stored."""

    place: Place
    planned: Mapping[str, Step]
    reports: dict[str, StepReport]
    total: int
    begun: set[str] = field(default_factory=set)

    def run(self, waiting: list[Step]) -> None:
        """Computes steps until each has a report."""
        while waiting or self.begun - self.reports.keys():
            waiting = [step for step in waiting if not self._is_dealt_with(step)]
            if self.begun - self.reports.keys():
                self.reports.update(ended := self.place.finished())
                _expect_room(ended)

    def _is_dealt_with(self, step: Step) -> bool:
        """Begins a step that can begin, or reports one that lost an input; returns whether it did either."""
        needed = [needed for needed in step.inputs.values() if needed.digest in self.planned]
        known = [self.reports.get(it.digest) for it in needed]
        if lost := [
            it.title for it, report in zip(needed, known, strict=True) if report is not None and report.status not in FINISHED
        ]:
            self.reports[step.digest] = StepReport(Status.NOT_RUN, f"not run: {lost[0]} did not finish")
            return True
        if None in known or not self.place.has_room:
            return False
        self.begun.add(step.digest)
        logger.info("step %d of %d: %s", len(self.begun), self.total, step.title)
        self.place.begin(step)
        return True


def _expect_room(ended: Mapping[str, StepReport]) -> None:
    for report in ended.values():
        if report.status is Status.FAILED and says_disk_is_full(report.reason):
            raise StoreError(f"{report.reason}; {GOES_ON}")
