"""A run whose steps have ended: the plan, the store, and what became of each step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from harness.errors import StoreError
from harness.executors.base import STOPPED_BEFORE, StepReport
from harness.planning.plan import Plan, PlannedCell
from harness.records import FINISHED, CellResult, Outcome, Status
from harness.steps.base import Context, Step
from harness.steps.judgement import Judgement
from harness.steps.parts import Divisible


def result_of(cell: PlannedCell, outcome: Outcome, status: Status) -> CellResult:
    """Returns a planned cell with its numbers, from the outcome of its step."""
    return CellResult(
        cell.cell,
        cell.digest,
        status,
        labels=outcome.labels,
        clean_logits=outcome.clean_logits,
        condition=outcome.conditions[cell.position],
        smallest_eps=outcome.smallest_eps,
    )


@dataclass(frozen=True)
class FinishedRun:
    """The source of all tables. Steps may have failed, and a run that was stopped has steps without a report."""

    plan: Plan
    context: Context
    """Where the steps ran and their results lie."""
    reports: Mapping[str, StepReport]
    """Digest -> what became of that step."""
    _outcomes: dict[str, Outcome] = field(default_factory=dict, repr=False, compare=False)
    """Digest -> outcome that has been read; many cells share one."""

    def report(self, step: Step) -> StepReport:
        """Returns what became of a step."""
        return self.reports.get(step.digest, STOPPED_BEFORE)

    def finished(self, step: Step) -> bool:
        """Returns whether a step has a result."""
        return self.report(step).status in FINISHED

    def result(self, cell: PlannedCell) -> CellResult:
        """Returns a planned cell with its numbers, or with the reason why it has none."""
        if cell.step is None:
            return CellResult(cell.cell, cell.digest, Status.SKIPPED, cell.skip or "")
        report = self._report_with_parts(cell.step)
        if not self.finished(cell.step):
            return CellResult(cell.cell, cell.digest, report.status, report.reason)
        outcome = self._outcome(cell.step)
        try:
            own = cell.step.judged(self.context) if cell.cell.kind.own_examples else None
        except StoreError as damage:  # of the poison, which a stored outcome does not need
            return CellResult(cell.cell, cell.digest, Status.FAILED, str(damage))
        result = result_of(cell, outcome, report.status)
        return result if own is None else replace(result, example_ids=tuple(own.ids), example_hashes=tuple(own.hashes))

    def _report_with_parts(self, step: Judgement) -> StepReport:
        """Returns what became of a step; of one that was not run as a part of it failed, why that did: as if it were one step."""
        report = self.report(step)
        if report.status is Status.NOT_RUN and isinstance(step, Divisible):
            for part in step.parts:
                if (lost := self.report(part)).status is Status.FAILED:
                    return replace(lost, reason=f"{part.span}: {lost.reason}")
        return report

    def _outcome(self, step: Judgement) -> Outcome:
        if step.digest not in self._outcomes:
            self._outcomes[step.digest] = step.outcome(self.context)
        return self._outcomes[step.digest]
