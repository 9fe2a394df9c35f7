"""What every executor says of the steps that it ran."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.records import Status


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


class Interrupted(Exception):
    """The run was stopped by its user; what is finished is in the store."""

    def __init__(self, reports: Mapping[str, StepReport]) -> None:
        """Keeps the reports of the steps that were reached."""
        super().__init__("stopped; what is finished is kept, and the same command goes on from here")
        self.reports = dict(reports)
