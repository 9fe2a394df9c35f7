import gc
import threading
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from harness.errors import HarnessError
from harness.executors.local import execute
from harness.records import Status
from harness.steps.base import Context
from tests.executors.steps import Failing, Numbered, context_in, value_of


def test_steps_are_computed_once_and_then_found(tmp_path: Path) -> None:
    context, step = context_in(tmp_path), Numbered(1)
    assert execute([step], context)[step.digest].status is Status.DONE
    assert execute([step], context)[step.digest].status is Status.CACHED
    assert value_of(step, context.store) == 1


def test_what_needs_a_failed_step_is_not_run_and_the_rest_goes_on(tmp_path: Path) -> None:
    bad, other = Failing(1), Numbered(2)
    follower = Numbered(3, (bad,))
    reports = execute([bad, follower, other], context_in(tmp_path))
    assert [reports[step.digest].status for step in (bad, follower, other)] == [Status.FAILED, Status.NOT_RUN, Status.DONE]
    assert reports[bad.digest].reason == "no luck"


def test_step_that_another_run_finishes_meanwhile_is_taken_from_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context, step, reports = context_in(tmp_path), Numbered(1), {}
    second = threading.Thread(target=lambda: reports.update(execute([step], context)))
    with context.store.locked(step.digest, step.title):
        second.start()
        while not any("waiting for process" in line for line in caplog.messages):
            second.join(timeout=0.01)
        with context.store.writing(step.KIND, step.digest, {}) as folder:
            (folder / "value").write_text("7")
    second.join(timeout=60)
    assert reports[step.digest].status is Status.CACHED
    assert value_of(step, context.store) == 7


class Noting(Numbered):
    """Notes whether convolutions may round to TF32 while it runs."""

    def act(self, context: Context) -> None:
        SEEN.append(torch.backends.cudnn.allow_tf32)


class Measuring(Noting):
    FULL_FLOAT32: ClassVar[bool] = True


SEEN: list[bool] = []


def test_step_records_the_flags_that_it_ran_under(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    context, steps = context_in(tmp_path), [Noting(1), Measuring(2)]
    SEEN.clear()
    execute(steps, context)
    entries = [context.entry(step) for step in steps]
    assert SEEN == [True, False]
    assert [entry.meta["cudnn_tf32"] for entry in entries if entry is not None] == SEEN
    assert torch.backends.cudnn.allow_tf32


class Counting(Numbered):
    """Notes how many objects collections of garbage spare while it runs."""

    def act(self, context: Context) -> None:
        SPARED.append(gc.get_freeze_count())
        raise HarnessError("no luck")


SPARED: list[int] = []


def test_old_objects_are_spared_from_collections_while_steps_run(tmp_path: Path) -> None:
    SPARED.clear()
    before = gc.get_freeze_count()
    execute([Counting(1)], context_in(tmp_path))
    assert SPARED[0] > before == gc.get_freeze_count()
