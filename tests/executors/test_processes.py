"""Steps in real processes; starting one takes seconds, so most tests share a run."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch

from harness.errors import HarnessError
from harness.executors.base import StepReport
from harness.executors.local import execute
from harness.executors.processes import _Crew, _Worker, execute_in_processes
from harness.records import Status
from harness.steps.base import Context, Step
from harness.system.children import Child
from harness.system.progress import Advance
from harness.system.progress_relay import Logged, Screen
from tests.executors.steps import Failing, Killed, Numbered, context_in, value_of

FIRST, SECOND = Numbered(1), Numbered(2)
BOTH = Numbered(3, (FIRST, SECOND))
BAD, LOST = Failing(4), Killed(5)
AFTER_LOST = Numbered(6, (LOST,))
STEPS: list[Step] = [FIRST, SECOND, BOTH, BAD, LOST, AFTER_LOST]


class Shown:
    """A progress display that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextmanager
    def task(self, title: str, total: float, unit: str = "") -> Iterator[Advance]:
        yield lambda amount, note: self.events.append(f"{title} {amount:g}/{total:g} {note}")
        self.events.append(f"{title} done")


class Ran:
    """One run of all the steps by two jobs."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.shown = Shown()
        self.context = replace(context_in(folder), progress=self.shown)
        with caplog.at_level(logging.INFO, logger="harness"):
            self.reports = execute_in_processes(STEPS, self.context, jobs=2)
        self.log = list(caplog.messages)


def status_of(reports: dict[str, StepReport]) -> list[Status]:
    return [reports[step.digest].status for step in STEPS]


def written(step: Step, context: Context) -> tuple[int, int]:
    entry = context.store.get(step.KIND, step.digest)
    assert entry is not None
    process, threads = (entry.path / "process").read_text().split()
    return int(process), int(threads)


def test_two_jobs_compute_what_one_does_and_lose_only_what_was_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ran = Ran(tmp_path, caplog)
    done, failed = Status.DONE, Status.FAILED
    assert status_of(ran.reports) == [done, done, done, failed, failed, Status.NOT_RUN]
    assert value_of(BOTH, ran.context.store) == 6

    assert ran.reports[LOST.digest].reason.startswith("its process was killed by SIGKILL")
    assert any(line.startswith("killed 5 failed: its process was killed by SIGKILL") for line in ran.log)
    assert ran.reports[AFTER_LOST.digest].reason == "not run: killed 5 did not finish"
    assert ran.reports[BAD.digest].reason == "no luck"
    assert "Traceback" in ran.reports[BAD.digest].trace

    processes = {written(step, ran.context)[0] for step in (FIRST, SECOND, BOTH)}
    assert os.getpid() not in processes
    assert {written(step, ran.context)[1] for step in (FIRST, SECOND)} == {max(1, torch.get_num_threads() // 2)}

    assert "computing 1" in ran.log
    assert {"numbered 1: count 1/1 counted", "numbered 1: count done"} <= set(ran.shown.events)
    assert "failing 4: count done" not in ran.shown.events
    assert "killed 5: count done" not in ran.shown.events

    again = execute(STEPS[:3], ran.context)
    assert {report.status for report in again.values()} == {Status.CACHED}


def test_finished_steps_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_in(tmp_path)
    execute(STEPS[:3], context)
    monkeypatch.setattr("harness.system.children.started", None)
    reports = execute_in_processes(STEPS[:3], context, jobs=2)
    assert {report.status for report in reports.values()} == {Status.CACHED}


def test_one_job_runs_in_this_process(tmp_path: Path) -> None:
    context = context_in(tmp_path)
    execute_in_processes([FIRST], context, jobs=1)
    assert written(FIRST, context)[0] == os.getpid()


def test_number_of_jobs_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="jobs: expected a whole number >= 1, got 0"):
        execute_in_processes([FIRST], context_in(tmp_path), jobs=0)


def test_what_cannot_be_sent_to_a_process_is_one_clear_line(tmp_path: Path) -> None:
    context = context_in(tmp_path)
    context = replace(context, data=replace(context.data, splits={"test": lambda: None}))  # type: ignore[dict-item]
    with pytest.raises(HarnessError, match="data: with several jobs expected what can be pickled"):
        execute_in_processes([FIRST], context, jobs=2)


INTERRUPTED = """
import signal
import sys
from pathlib import Path
from harness.executors.base import Interrupted
from harness.executors.processes import execute_in_processes
from tests.executors.steps import Numbered, Sleeping, context_in
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with SIGINT ignored
    try:
        execute_in_processes([Numbered(1), Sleeping(2), Sleeping(3)], context_in(Path(sys.argv[1])), jobs=2)
    except Interrupted as stop:
        print(*(report.status for report in stop.reports.values()))
"""


def living(group: int) -> Iterator[str]:
    """Yields the processes of a group, without those that have ended and wait to be noticed."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group, *_ = path.read_text().rpartition(")")[2].split()
            if int(of_group) == group and state != "Z":
                yield path.parent.name


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_ctrl_c_stops_all_processes_and_keeps_what_is_finished(tmp_path: Path) -> None:
    script, store = tmp_path / "script.py", tmp_path / "store"
    script.write_text(INTERRUPTED)
    here = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(here)}
    command = [sys.executable, str(script), str(store)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=here, start_new_session=True
    ) as run:
        while len(list(store.glob(".partial/*/begun"))) < 2 and run.poll() is None:
            time.sleep(0.05)
        time.sleep(1)  # the parent waits for its workers by now
        os.killpg(run.pid, signal.SIGINT)
        out, error = run.communicate(timeout=120)
    assert (out.strip(), error) == ("done", "")
    for _ in range(600):  # multiprocessing's resource tracker ends a moment after those that it looks after
        if not (alive := list(living(run.pid))):
            break
        time.sleep(0.05)
    assert alive == []
    assert len(list(store.glob("numbered/*/meta.json"))) == 1
    assert list(store.glob("*/.*")) == []


def test_run_ends_when_the_last_steps_are_settled_without_computing(tmp_path: Path) -> None:
    context, broken = context_in(tmp_path), Failing(1)
    chain = [broken, Numbered(2, (broken,))]
    reports = execute_in_processes(chain, context, jobs=2)
    assert [reports[step.digest].status for step in chain] == [Status.FAILED, Status.NOT_RUN]


class DiesUnseen:
    """A process that is alive when it is first asked, and gone when it is asked again."""

    exitcode = -signal.SIGKILL

    def __init__(self) -> None:
        self.answers = iter((True, False))
        self.sentinel, self.other_end = Pipe()

    def is_alive(self) -> bool:
        return next(self.answers, False)

    def join(self, _: float | None = None) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


def test_worker_that_dies_between_two_looks_is_reported(tmp_path: Path) -> None:
    context, step, (here, there) = context_in(tmp_path), Numbered(1), Pipe()
    crew = _Crew(context, jobs=2, threads=1)
    crew.workers.append(_Worker(Child(DiesUnseen(), here), Screen(context.progress), step))
    there.send(Logged(logging.INFO, "harness", "still there"))
    assert crew.finished() == {}
    there.close()
    assert crew.finished()[step.digest].status is Status.FAILED
    assert crew.workers == []


UNGUARDED = """
import sys
from pathlib import Path
from harness.executors.processes import execute_in_processes
from tests.executors.steps import Numbered, context_in
reports = execute_in_processes([Numbered(1), Numbered(2), Numbered(3)], context_in(Path(sys.argv[1])), jobs=2)
print(*(f"{report.status}: {report.reason}" for report in reports.values()), sep="\\n")
"""


def test_script_without_a_guard_has_failed_steps_that_name_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    here = Path(__file__).parents[2]
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": str(here)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=300)
    lines = ran.stdout.splitlines()
    assert len(lines) == 3
    assert {line.partition(" exit code")[0] for line in lines} == {"failed: its process ended with"}
    assert all('does not guard its main part with `if __name__ == "__main__"`' in line for line in lines)
    assert "Traceback" not in ran.stderr
