"""The scheduler with a place that computes nothing: what begins when, and what becomes of the rest."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from harness.errors import StoreError
from harness.executors.base import Interrupted, StepReport
from harness.executors.schedule import schedule
from harness.records import Status
from harness.steps.base import Step
from tests.executors.steps import Failing, Killed, Numbered

DONE, CACHED = StepReport(Status.DONE), StepReport(Status.CACHED)
FAILED = StepReport(Status.FAILED, "no luck")


@dataclass
class Double:
    """A place with room for some steps; it ends the one that began last first, unless told otherwise."""

    room: int = 1
    choose: Callable[[list[Step]], Step] = field(default=lambda steps: steps[-1])
    begun: list[str] = field(default_factory=list)
    running: list[Step] = field(default_factory=list)
    most: int = 0

    @property
    def has_room(self) -> bool:
        return len(self.running) < self.room

    def begin(self, step: Step) -> None:
        assert self.has_room
        self.begun.append(step.title)
        self.running.append(step)
        self.most = max(self.most, len(self.running))

    def finished(self) -> dict[str, StepReport]:
        step = self.choose(self.running)
        if isinstance(step, Killed):
            raise KeyboardInterrupt
        self.running.remove(step)
        return {step.digest: FAILED if isinstance(step, Failing) else DONE}


class Slow(Double):
    """A place that often has no news."""

    silent = True

    def finished(self) -> dict[str, StepReport]:
        self.silent = not self.silent
        return super().finished() if self.silent else {}


def nothing(step: Step) -> None: ...


def statuses(reports: dict[str, StepReport], steps: Iterable[Step]) -> list[Status]:
    return [reports[step.digest].status for step in steps]


FIRST, SECOND, THIRD = Numbered(1), Numbered(2), Numbered(3)
AFTER_FIRST, AFTER_ALL = Numbered(4, (FIRST,)), Numbered(5, (FIRST, SECOND, THIRD))


def test_one_after_the_other_in_the_given_order() -> None:
    place = Double()
    reports = schedule([FIRST, SECOND, AFTER_FIRST, THIRD, AFTER_ALL], place, stored=nothing)
    assert place.begun == ["numbered 1", "numbered 2", "numbered 4", "numbered 3", "numbered 5"]
    assert place.most == 1
    assert set(reports.values()) == {DONE}


def test_a_step_begins_as_soon_as_its_inputs_are_finished_and_there_is_room() -> None:
    place = Double(room=2, choose=lambda steps: steps[0])
    schedule([FIRST, AFTER_FIRST, SECOND, THIRD, AFTER_ALL], place, stored=nothing)
    assert place.begun == ["numbered 1", "numbered 2", "numbered 4", "numbered 3", "numbered 5"]
    assert place.most == 2


def test_place_without_news_is_asked_again() -> None:
    assert set(schedule([FIRST, AFTER_FIRST], Slow(), stored=nothing).values()) == {DONE}


def test_failure_marks_all_that_depends_on_it_as_not_run_and_nothing_else() -> None:
    bad = Failing(6)
    child = Numbered(7, (FIRST, bad))
    steps = [bad, FIRST, child, Numbered(8, (child,)), SECOND]
    place = Double(room=2)
    reports = schedule(steps, place, stored=nothing)
    assert statuses(reports, steps) == [Status.FAILED, Status.DONE, Status.NOT_RUN, Status.NOT_RUN, Status.DONE]
    assert [reports[step.digest].reason for step in steps[2:4]] == [
        "not run: failing 6 did not finish",
        "not run: numbered 7 did not finish",
    ]
    assert place.begun == ["failing 6", "numbered 1", "numbered 2"]


def test_stored_steps_do_not_begin_and_are_known_before_any_other_does() -> None:
    place, steps = Double(), [Killed(1), AFTER_FIRST, FIRST, SECOND]
    with pytest.raises(Interrupted) as stop:
        schedule(steps, place, stored=lambda step: CACHED if step in {FIRST, SECOND} else None)
    assert place.begun == ["killed 1"]
    assert stop.value.reports == {FIRST.digest: CACHED, SECOND.digest: CACHED}


def test_stop_keeps_the_reports_so_far_and_begins_nothing_more() -> None:
    place, bad = Double(), Failing(6)
    with pytest.raises(Interrupted) as stop:
        schedule([FIRST, bad, Killed(2), SECOND], place, stored=nothing)
    assert stop.value.reports == {FIRST.digest: DONE, bad.digest: FAILED}
    assert place.begun == ["numbered 1", "failing 6", "killed 2"]


def test_stop_while_the_store_is_read_keeps_what_was_found() -> None:
    def stored(step: Step) -> StepReport:
        if step is SECOND:
            raise KeyboardInterrupt
        return CACHED

    with pytest.raises(Interrupted) as stop:
        schedule([FIRST, SECOND], Double(), stored=stored)
    assert stop.value.reports == {FIRST.digest: CACHED}


def test_input_outside_of_the_plan_is_taken_for_finished() -> None:
    assert schedule([AFTER_FIRST], Double(), stored=nothing) == {AFTER_FIRST.digest: DONE}


def test_step_that_is_named_twice_runs_once() -> None:
    place = Double()
    assert len(schedule([FIRST, SECOND, FIRST], place, stored=nothing)) == 2
    assert place.begun == ["numbered 1", "numbered 2"]


def test_no_steps_need_no_place() -> None:
    assert schedule([], Double(room=0), stored=nothing) == {}


@pytest.mark.parametrize(
    "reason",
    [
        "store: the store cannot be written: No space left on device",
        "SafetensorError: Error while serializing: I/O error: File too large (os error 27)",
        "OSError: Can't synchronously write data (file write failed: errno = 122, error message = 'Disk quota exceeded')",
    ],
)
def test_a_full_disk_ends_the_run_at_once(reason: str) -> None:
    class Full(Double):
        def finished(self) -> dict[str, StepReport]:
            return {digest: StepReport(Status.FAILED, reason) for digest in super().finished()}

    place = Full()
    with pytest.raises(StoreError, match="goes on once there is room"):
        schedule([Numbered(0), Numbered(1)], place, stored=nothing)
    assert len(place.begun) == 1
