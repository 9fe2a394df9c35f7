"""What a finished run says of its steps and cells."""

from types import SimpleNamespace

import numpy as np
import pytest

from harness.errors import StoreError
from harness.executors.base import StepReport
from harness.planning.plan import PlannedCell
from harness.records import Cell, ConditionResult, Outcome, Status
from harness.running.finished import FinishedRun

CLEAN = Cell(dataset="made", model="net", arch="linear", recipe="given")
LABELS = np.array([0, 1])
LOGITS = np.eye(2, dtype=np.float32)


class Step:
    """A judging step that counts how often its outcome is read."""

    def __init__(self, digest: str, positions: int = 1) -> None:
        self.digest, self.reads = digest, 0
        nothing = np.zeros(2, np.float32)
        conditions = tuple(ConditionResult(None, place + LOGITS, nothing.astype(bool), nothing) for place in range(positions))
        self.stored = Outcome(LABELS, LOGITS, conditions, nothing)

    def outcome(self, _: object) -> Outcome:
        self.reads += 1
        return self.stored

    def judged(self, _: object) -> SimpleNamespace:
        return SimpleNamespace(ids=("own 0", "own 1"), hashes=("h0", "h1"))


def run_of(**reports: StepReport) -> FinishedRun:
    return FinishedRun(SimpleNamespace(), SimpleNamespace(), reports)


@pytest.mark.parametrize(
    ("report", "status", "reason"),
    [
        (StepReport(Status.FAILED, "it broke"), Status.FAILED, "it broke"),
        (StepReport(Status.NOT_RUN, "not run: train did not finish"), Status.NOT_RUN, "not run: train did not finish"),
        (None, Status.NOT_RUN, "not run: stopped before"),
    ],
)
def test_cell_of_a_step_without_a_result_has_its_reason_and_no_number(
    report: StepReport | None, status: Status, reason: str
) -> None:
    step, run = Step("a"), run_of(**({} if report is None else {"a": report}))
    result = run.result(PlannedCell(CLEAN, step))
    assert (result.status, result.reason, result.condition) == (status, reason, None)
    assert not run.finished(step)
    assert step.reads == 0


def test_skipped_cell_has_no_step_and_says_why() -> None:
    result = run_of().result(PlannedCell(CLEAN, None, skip="needs L2"))
    assert (result.status, result.reason) == (Status.SKIPPED, "needs L2")


def test_cells_of_one_step_have_a_condition_each_and_read_its_outcome_once() -> None:
    step, run = Step("a", positions=3), run_of(a=StepReport(Status.CACHED))
    results = [run.result(PlannedCell(CLEAN, step, position)) for position in (0, 2)]
    assert [float(result.condition.logits[0, 1]) for result in results] == [0, 2]
    assert {result.status for result in results} == {Status.CACHED}
    assert step.reads == 1


def test_condition_on_examples_of_its_own_names_them() -> None:
    step, run = Step("a"), run_of(a=StepReport(Status.DONE))
    triggered = CLEAN.model_copy(update={"condition": "trigger"})
    assert run.result(PlannedCell(triggered, step)).example_ids == ("own 0", "own 1")
    assert run.result(PlannedCell(CLEAN, step)).example_ids is None


def test_damaged_poison_fails_the_cells_that_need_its_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> None:
        raise StoreError("manifest.json: damaged")

    monkeypatch.setattr(Step, "judged", damaged)
    step, run = Step("a"), run_of(a=StepReport(Status.DONE))
    result = run.result(PlannedCell(CLEAN.model_copy(update={"condition": "trigger"}), step))
    assert (result.status, result.reason) == (Status.FAILED, "manifest.json: damaged")
