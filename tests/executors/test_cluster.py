"""What the Ray executor does with steps, with a double in Ray's place; see test_ray.py for Ray itself."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from harness.datasets.digits import Digits
from harness.errors import HarnessError
from harness.executors.base import Interrupted, StepReport
from harness.executors.cluster import MAX_RETRIES, Share, _Cluster, execute_on_ray, share_of
from harness.executors.cluster_files import FOLDER, LOCK, own_folder, remove_abandoned
from harness.executors.cluster_session import _connected, _quiet, _signed
from harness.executors.cluster_worker import Home, Letter, Post
from harness.executors.local import computed
from harness.executors.schedule import schedule
from harness.models.factory import Factory
from harness.records import Status
from harness.steps.base import Context, DataIdentity, Step
from harness.steps.train import Train
from harness.storage.store import Store
from harness.system.progress_relay import Closed, Logged
from harness.training.recipes.standard import Standard
from tests.executors.steps import Failing, Numbered, context_in, value_of


class RayError(Exception): ...


class WorkerCrashedError(RayError): ...


class NodeDiedError(RayError): ...


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(f"traceback of {cause}")
        self.cause = cause


@dataclass
class FakeRay:
    """Ray with futures that are functions; they are called when their result is asked for."""

    cancelled: list[bool] = field(default_factory=list)
    exceptions: Any = field(default_factory=lambda: SimpleNamespace(RayError=RayError))

    def wait(self, futures: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return (futures[:num_returns], futures[num_returns:])

    def get(self, future: Callable[[], StepReport]) -> StepReport:
        return future()

    def cancel(self, future: object, *, force: bool) -> None:
        self.cancelled.append(force)


@dataclass
class FakeSession:
    """A cluster of one node that computes steps here; its first tasks end with the errors given."""

    context: Context
    errors: list[Exception] = field(default_factory=list)
    resources: dict[str, float] = field(default_factory=lambda: {"CPU": 4.0})
    submitted: list[tuple[str, int, float]] = field(default_factory=list)
    told: list[Letter] = field(default_factory=list)
    ended: bool = False

    def start(self) -> None: ...

    def nodes(self) -> list[dict[str, float]]:
        return [self.resources]

    def submit(self, step: Step, *, sender: str, cpus: int, gpus: float) -> Callable[[], StepReport]:
        self.submitted.append((step.title, cpus, gpus))
        hello = Letter(sender, 0, Logged(logging.INFO, "harness.tests", f"hello of {sender[-2:]}"))
        self.told += [hello, Letter(sender, 1, Closed(7, whole=True)), hello]  # one whose beginning was lost, one that came twice
        error = self.errors.pop(0) if self.errors else None

        def result() -> StepReport:
            if error is not None:
                raise error
            return computed(step, self.context)

        return result

    def messages(self) -> list[Letter]:
        told, self.told = self.told, []
        return told

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray


def run(steps: list[Step], session: FakeSession, jobs: int = 2) -> dict[str, StepReport]:
    cluster = _Cluster(session.context, jobs, session)  # type: ignore[arg-type]
    return schedule(steps, cluster, stored=lambda _: None)


@pytest.mark.usefixtures("fake")
def test_steps_get_their_share_and_their_results_are_those_of_one_process(tmp_path: Path) -> None:
    session = FakeSession(context_in(tmp_path))
    first, second = Numbered(1), Numbered(2)
    both = Numbered(3, (first, second))
    reports = run([first, second, both], session)
    assert {report.status for report in reports.values()} == {Status.DONE}
    assert value_of(both, session.context.store) == 6
    assert session.submitted == [("numbered 1", 2, 0.0), ("numbered 2", 2, 0.0), ("numbered 3", 2, 0.0)]


@pytest.mark.usefixtures("fake")
def test_lost_worker_costs_a_retry_which_is_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    session = FakeSession(context_in(tmp_path), [WorkerCrashedError(), NodeDiedError()])
    with caplog.at_level(logging.INFO, logger="harness"):
        reports = run([Numbered(1)], session)
    assert [report.status for report in reports.values()] == [Status.DONE]
    assert len(session.submitted) == 3
    assert "numbered 1: its worker was lost; begins again, retry 1 of 3" in caplog.messages
    assert "numbered 1: its node was lost; begins again, retry 2 of 3" in caplog.messages
    assert [line for line in caplog.messages if line.startswith("hello")] == ["hello of .0", "hello of .1", "hello of .2"]


@pytest.mark.usefixtures("fake")
def test_step_whose_worker_is_lost_too_often_has_failed_and_the_rest_goes_on(tmp_path: Path) -> None:
    session = FakeSession(context_in(tmp_path), [WorkerCrashedError() for _ in range(MAX_RETRIES + 1)])
    lost, other = Numbered(1), Numbered(2)
    reports = run([lost, Numbered(3, (lost,)), other], session, jobs=1)
    assert reports[lost.digest].reason == "its worker was lost 4 times"
    assert [report.status for report in reports.values()] == [Status.FAILED, Status.NOT_RUN, Status.DONE]
    assert [title for title, _, _ in session.submitted] == ["numbered 1"] * 4 + ["numbered 2"]


@pytest.mark.usefixtures("fake")
def test_step_that_fails_by_itself_is_not_tried_again(tmp_path: Path) -> None:
    session = FakeSession(context_in(tmp_path), [RayTaskError(HarnessError("on node a: expected the store"))])
    unseen, bad = Numbered(1), Failing(2)
    reports = run([unseen, bad], session)
    assert [(report.status, report.reason) for report in reports.values()] == [
        (Status.FAILED, "on node a: expected the store"),
        (Status.FAILED, "no luck"),
    ]
    assert reports[unseen.digest].trace == "traceback of on node a: expected the store"
    assert len(session.submitted) == 2


@pytest.mark.usefixtures("fake")
def test_result_that_is_not_in_this_store_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.cluster.VISIBLE_WITHIN", 0.0)
    session = FakeSession(context_in(tmp_path / "here"))
    cluster = _Cluster(context_in(tmp_path / "there"), 1, session)  # type: ignore[arg-type]
    reports = schedule([step := Numbered(1)], cluster, stored=lambda _: None)
    assert reports[step.digest].status is Status.FAILED
    assert "it is not in" in reports[step.digest].reason


def test_interrupted_run_ends_its_tasks_first_gently(tmp_path: Path, fake: FakeRay) -> None:
    session = FakeSession(context_in(tmp_path), [])
    cluster = _Cluster(session.context, 1, session)  # type: ignore[arg-type]
    cluster.begin(Numbered(1))
    fake.wait = lambda futures, num_returns, timeout: ([], futures)  # type: ignore[method-assign]
    cluster.dismiss()
    assert fake.cancelled == [False, True]
    assert session.ended


@pytest.mark.usefixtures("fake")
def test_ctrl_c_becomes_an_interrupted_run(tmp_path: Path) -> None:
    session = FakeSession(context_in(tmp_path), [KeyboardInterrupt()])  # type: ignore[list-item]
    with pytest.raises(Interrupted):
        run([Numbered(1)], session)


def training(devices: int) -> Train:
    data = Digits(resolution=8).load()
    identity = DataIdentity.of(Digits(resolution=8), data)
    network = Factory(factory="tests.nets:small_convnet")
    return Train("net", network, Standard(epochs=1), identity, 8, 0, devices=devices)


@pytest.mark.parametrize(
    ("devices", "nodes", "jobs", "on_gpu", "expected"),
    [
        (1, [{"CPU": 8.0}], 2, False, Share(4)),
        (1, [{"CPU": 8.0}], 16, False, Share(1)),
        (1, [{"CPU": 16.0}, {"CPU": 16.0}], 1, False, Share(16)),  # a task lies in one node
        (1, [{"CPU": 2.0}, {"CPU": 1.0}], 3, False, Share(1)),
        (1, [{"CPU": 8.0}, {"CPU": 8.0}], 3, False, Share(4)),  # of 5 each node would hold one
        (4, [{"CPU": 8.0}], 4, False, Share(4)),  # processes of one training, each with a thread
        (16, [{"CPU": 8.0}], 4, False, Share(8)),
        (1, [{"CPU": 64.0, "GPU": 8.0}], 8, True, Share(8, 1.0)),
        (1, [{"CPU": 64.0, "GPU": 8.0}], 4, True, Share(16, 1.0)),
        (1, [{"CPU": 64.0, "GPU": 8.0}], 32, True, Share(2, 0.25)),
        (1, [{"CPU": 64.0, "GPU": 8.0}], 9, True, Share(7, 0.5)),
        (8, [{"CPU": 64.0, "GPU": 8.0}], 8, True, Share(8, 8.0)),
        (1, [{"CPU": 4.0}], 8, True, Share(1, 1.0)),  # nodes with GPUs may come later
        (1, [{"memory": 1.0}], 2, False, Share(1)),
    ],
)
def test_share_of_a_step(devices: int, nodes: list[dict[str, float]], jobs: int, on_gpu: bool, expected: Share) -> None:
    assert share_of(training(devices), nodes, jobs=jobs, on_gpu=on_gpu) == expected


@pytest.mark.usefixtures("fake")
def test_step_that_no_node_can_run_now_is_said_to_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = replace(context_in(tmp_path), device=torch.device("cuda"))
    session = FakeSession(context, resources={"CPU": 2.0})
    _Cluster(context, 1, session).begin(Numbered(1))  # type: ignore[arg-type]
    assert caplog.messages == ["numbered 1: waits for a node with 2 CPUs and 1 GPUs; the cluster has none now"]


def test_one_gpu_of_several_is_refused_as_ray_chooses_it(tmp_path: Path) -> None:
    context = replace(context_in(tmp_path), device="cuda:1")
    with pytest.raises(HarnessError, match="device: expected cuda or cpu, as Ray chooses the GPU of each step, got cuda:1"):
        execute_on_ray([Numbered(1)], context, jobs=1)


def test_number_of_jobs_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="jobs: expected a whole number >= 1, got 0"):
        execute_on_ray([Numbered(1)], context_in(tmp_path), jobs=0)


def test_finished_steps_start_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_in(tmp_path)
    computed(Numbered(1), context)
    monkeypatch.setattr("harness.executors.cluster_session._connected", None)
    reports = execute_on_ray([Numbered(1)], context, jobs=2)
    assert {report.status for report in reports.values()} == {Status.CACHED}


def test_worker_knows_the_store_of_the_run_and_says_where_it_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    store = Store(tmp_path / "store")
    left = store.lock_file("run-00000000")
    left.parent.mkdir(parents=True)
    left.touch()
    with _signed(store) as home:
        home.enter()
        assert not left.exists()
        gone = replace(home, modules=("/no/such/place",), sign=str(tmp_path / "other" / Path(home.sign).name))
        with pytest.raises(HarnessError, match=r"expected the store of the run in .*, found none; is it on a file system"):
            gone.enter()
        assert sys.path[-1] == "/no/such/place"
    with pytest.raises(HarnessError, match="expected the store of the run"):
        home.enter()
    assert list(left.parent.iterdir()) == []


def test_worker_that_lacks_the_working_folder_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sign").touch()
    Home(str(tmp_path / "absent"), (), {}, str(tmp_path), str(tmp_path / "sign")).enter()
    assert Path.cwd() == tmp_path


class Box:
    """A mailbox in this process, called as an actor is."""

    def __init__(self) -> None:
        self.got: list[Letter] = []
        self.tell = SimpleNamespace(remote=self.got.extend)


def test_messages_arrive_in_their_order_and_none_after_the_end(fake: FakeRay) -> None:
    box = Box()
    fake.get = lambda *_, **__: None  # type: ignore[method-assign, assignment, return-value]
    post = Post(box, "one")
    with post.open():
        for number in range(100):
            post.send(number)
    post.send("late")
    assert [(letter.number, letter.message) for letter in box.got] == [(number, number) for number in range(100)]


def test_handler_of_sigterm_stays_that_of_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    calls: list[str] = []

    def init(address: str, **_: object) -> None:
        calls.append(address)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    ray = SimpleNamespace(init=init, is_initialized=lambda: False, shutdown=lambda: calls.append("shutdown"))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray._private.worker", ModuleType("worker"))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with _connected(2):
        assert signal.getsignal(signal.SIGTERM) == before
    assert calls == ["10.0.0.1:6379", "shutdown"]


def test_cluster_that_does_not_answer_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("nobody there\nmore lines")

    ray = SimpleNamespace(init=init, is_initialized=lambda: False, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray._private.worker", ModuleType("worker"))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    said = "executor: expected Ray to start or answer at RAY_ADDRESS=10.0.0.1:6379, got ConnectionError: nobody there"
    with pytest.raises(HarnessError, match=f"^{said}$"), _connected(2):
        pass


def test_pages_of_ray_itself_are_debug_messages_and_steps_still_print(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    printed: list[str] = []
    module = ModuleType("worker")
    vars(module)["print_worker_logs"] = own = lambda data, sink, *, ignore_prefix: printed.extend(data["lines"])
    monkeypatch.setitem(sys.modules, "ray._private.worker", module)
    with caplog.at_level(logging.DEBUG, logger="harness"), _quiet():
        show = vars(module)["print_worker_logs"]
        show({"pid": "raylet", "lines": ["a page"]}, None, ignore_prefix=False)
        show({"pid": 7, "lines": ["a step"]}, None, ignore_prefix=False)
    assert (printed, caplog.messages) == (["a step"], ["a page"])
    assert vars(module)["print_worker_logs"] is own


def test_folders_of_killed_runs_are_removed_and_those_at_work_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.cluster_files.SOCKETS", str(tmp_path))
    left, other, begun = tmp_path / f"{FOLDER}left", tmp_path / "other", tmp_path / f"{FOLDER}begun"
    for folder in (left, other, begun):
        folder.mkdir()
    (left / LOCK).write_text("")
    with own_folder() as first:
        assert not left.exists()
        with own_folder() as second:
            assert {path.name for path in tmp_path.iterdir()} == {"other", begun.name, Path(first).name, Path(second).name}
    assert {path.name for path in tmp_path.iterdir()} == {"other", begun.name}


@pytest.mark.parametrize("hours", [-30_000.0, -2.0, 2.0, 400_000.0])
def test_folder_of_a_run_that_was_killed_before_its_lock_goes_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    monkeypatch.setattr("harness.executors.cluster_files.SOCKETS", str(tmp_path))
    with own_folder() as working:
        (left := tmp_path / f"{FOLDER}left").mkdir()
        for folder in (left, Path(working)):
            os.utime(folder, (max(0.0, time.time() + hours * 3600),) * 2)
        remove_abandoned()
        assert list(tmp_path.iterdir()) == [Path(working)]


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
@pytest.mark.parametrize("names_it", [True, False])
def test_folder_of_a_killed_run_stays_as_long_as_a_process_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names_it: bool
) -> None:
    monkeypatch.setattr("harness.executors.cluster_files.SOCKETS", str(tmp_path))
    (left := tmp_path / f"{FOLDER}left").mkdir()
    (left / LOCK).write_text("")
    code = "import sys; print(flush=True); sys.stdin.read()"
    with (left / "log").open("w") as log:
        more: dict[str, Any] = {} if names_it else {"stderr": log}
        command = [sys.executable, "-c", code, *([f"--temp-dir={left}"] if names_it else [])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        remove_abandoned()
        assert left.is_dir()
        process.communicate()
    remove_abandoned()
    assert not left.exists()


def test_folder_that_is_none_of_ours_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.cluster_files.SOCKETS", str(tmp_path))
    (precious := tmp_path / "precious").mkdir()
    (precious / LOCK).write_text("mine")
    (tmp_path / f"{FOLDER}link").symlink_to(precious)
    remove_abandoned()
    assert (precious / LOCK).read_text() == "mine"
    monkeypatch.setattr(os, "getuid", lambda: -1)
    (theirs := tmp_path / f"{FOLDER}theirs").mkdir()
    (theirs / LOCK).symlink_to(precious / LOCK)
    remove_abandoned()
    assert (theirs / LOCK).is_symlink()
    assert (precious / LOCK).read_text() == "mine"
