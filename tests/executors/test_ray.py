"""Steps as tasks of Ray itself: on this machine, and on two nodes of which one is lost."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper, save

from harness.executors.cluster import execute_on_ray
from harness.executors.local import execute
from harness.onnxfile.session import Session
from harness.records import Status
from harness.steps.base import Context, Step
from tests.executors.steps import Numbered, context_in, value_of
from tests.executors.test_processes import AFTER_LOST, BAD, BOTH, FIRST, LOST, SECOND, STEPS, Shown, status_of, written

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")]
pytest.importorskip("ray")
HERE = Path(__file__).parents[2]


def living(session: int, *, named: str = "") -> dict[int, str]:
    """Returns the processes of a session, number -> title, without those that have ended and wait to be noticed."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, of_session, *_ = path.read_text().rpartition(")")[2].split()
            title = (path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if int(of_session) == session and state != "Z" and named in title:
                found[int(path.parent.name)] = title
    return found


def until(holds: Callable[[], object], *, within: float) -> bool:
    latest = time.monotonic() + within
    while time.monotonic() < latest:
        if holds():
            return True
        time.sleep(0.05)
    return False


@dataclass(frozen=True)
class Threads(Numbered):
    """Writes how many threads PyTorch and ONNX Runtime have, and in which process."""

    KIND: ClassVar[str] = "threads"

    def run(self, context: Context, folder: Path) -> None:
        path = folder / "identity.onnx"
        tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", tensors[:1], tensors[1:])
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        options = Session(path).opened.get_session_options()
        (folder / "value").write_text("0")
        (folder / "process").write_text(f"{torch.get_num_threads()} {options.intra_op_num_threads} {os.getpid()}")


def threads_of(step: Step, context: Context) -> list[int]:
    return [int(word) for word in (context.folder(step) / "process").read_text().split()]


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
def test_two_jobs_compute_what_one_process_does_and_lose_only_what_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = Shown()
    context = replace(context_in(tmp_path), progress=shown)
    with caplog.at_level(logging.INFO, logger="harness"):
        reports = execute_on_ray(STEPS, context, jobs=2)
    done, failed = Status.DONE, Status.FAILED
    assert status_of(reports) == [done, done, done, failed, failed, Status.NOT_RUN]
    assert value_of(BOTH, context.store) == 6
    assert reports[LOST.digest].reason == "its worker was lost 4 times"
    retries = [line for line in caplog.messages if line.startswith("killed 5: its worker was lost; begins again")]
    assert [line[-6:] for line in retries] == ["1 of 3", "2 of 3", "3 of 3"]
    assert reports[AFTER_LOST.digest].reason == "not run: killed 5 did not finish"
    assert reports[BAD.digest].reason == "no luck"
    assert "Traceback" in reports[BAD.digest].trace
    assert os.getpid() not in {written(step, context)[0] for step in (FIRST, SECOND, BOTH)}
    assert {written(step, context)[1] for step in (FIRST, SECOND)} == {1}
    assert "computing 1" in caplog.messages
    assert {"numbered 1: count 1/1 counted", "numbered 1: count done"} <= set(shown.events)
    assert not {"failing 4: count done", "killed 5: count done"} & set(shown.events)
    assert list(tmp_path.glob("*/.*")) == [] == list((tmp_path / ".claims").iterdir())
    assert {report.status for report in execute(STEPS[:3], context).values()} == {Status.CACHED}


@pytest.mark.usefixtures("_two_threads")
def test_threads_are_those_of_the_task_also_in_a_worker_that_had_others(tmp_path: Path) -> None:
    import ray

    context = context_in(tmp_path)
    some, more = [Threads(number) for number in range(4)], [Threads(number) for number in range(4, 8)]
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR)
    try:
        execute_on_ray(some, context, jobs=2)
        execute_on_ray(more, context, jobs=1)
    finally:
        ray.shutdown()
    one, two = ([threads_of(step, context) for step in steps] for steps in (some, more))
    assert {(torch, onnx) for torch, onnx, _ in one} == {(1, 1)}
    assert {(torch, onnx) for torch, onnx, _ in two} == {(2, 2)}
    assert {process for *_, process in one} & {process for *_, process in two}


INTERRUPTED = """
import signal
import sys
from pathlib import Path
from harness.executors.base import Interrupted
from harness.executors.cluster import execute_on_ray
from tests.executors.steps import Numbered, Sleeping, context_in
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with SIGINT ignored
    try:
        execute_on_ray([Numbered(1), Sleeping(2), Sleeping(3)], context_in(Path(sys.argv[1])), jobs=2)
    except Interrupted as stop:
        print(*(report.status for report in stop.reports.values()))
"""


def begun(folder: Path, script: str) -> tuple["subprocess.Popen[str]", Path]:
    """Starts a script that computes, and returns it once two steps sleep."""
    path, store = folder / "script.py", folder / "store"
    path.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    run = subprocess.Popen(
        [sys.executable, str(path), str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=HERE,
        start_new_session=True,
    )
    assert until(lambda: len(list(store.glob(".partial/*/begun"))) == 2 or run.poll() is not None, within=200)
    return run, store


def test_ctrl_c_stops_all_processes_and_keeps_what_is_finished(tmp_path: Path) -> None:
    run, store = begun(tmp_path, INTERRUPTED)
    time.sleep(1)
    started = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)
    out, error = run.communicate(timeout=120)
    seconds = time.monotonic() - started
    assert (out.strip(), error) == ("done", "")
    assert seconds < 5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), os.getloadavg()
    assert until(lambda: not living(run.pid), within=10), living(run.pid)
    assert len(list(store.glob("numbered/*/meta.json"))) == 1
    assert list(store.glob("*/.*")) == []
    assert list((store / ".claims").iterdir()) == []


def test_killed_run_leaves_no_process_and_its_locks_go_with_the_next_one(tmp_path: Path) -> None:
    run, store = begun(tmp_path, INTERRUPTED)
    run.kill()
    run.communicate(timeout=60)
    assert until(lambda: not [title for title in living(run.pid).values() if "Agent" not in title], within=20), living(run.pid)
    assert until(lambda: not living(run.pid), within=120), living(run.pid)
    execute_on_ray([Numbered(7)], context_in(store), jobs=1)
    assert not list(store.glob(".claims/run-*"))
    assert list(store.glob("*/.*")) == []


SUITE = """
name: rehearsal
dataset: {name: digits, resolution: 32}
architecture: {name: timm, arch: test_efficientnet.r160_in1k, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
models:
  plain: {recipe: {name: standard, epochs: 2, batch_size: 64}}
  hardened: {recipe: {name: pgd, epochs: 1, steps: 2, batch_size: 64}, warm_start: plain}
threat_model: {norm: Linf, eps: [4/255, 16/255]}
attacks:
  fgsm: {name: fgsm}
  pgd: {name: pgd, steps: 40, restarts: 4}
evaluation: {limit: 200}
"""
MEASURED = ("seconds", "attack_seconds", "status", "peak_memory_mb", "attack_share")
"""Columns that differ between two runs of one machine too."""


def command(folder: Path, name: str, *options: str) -> list[str]:
    suite = folder / "rehearsal.yaml"
    suite.write_text(SUITE)
    places = ["--store", str(folder / f"{name}.store"), "--out", str(folder / name)]
    return [sys.executable, "-m", "harness", "run", str(suite), "--device", "cpu", *places, *options]


def tables(folder: Path) -> Mapping[str, pd.DataFrame]:
    found = {path.name: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
    return {name: table.drop(columns=[it for it in MEASURED if it in table]) for name, table in found.items()}


def test_run_that_loses_a_worker_and_a_node_has_the_tables_of_a_local_one(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "2"}
    local = subprocess.run(command(tmp_path, "local", "--jobs", "2"), cwd=HERE, env=environment, check=True, capture_output=True)
    assert local.returncode == 0
    node = {"include_dashboard": False, "num_cpus": 1}
    cluster: Any = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(num_cpus=1)
    log = tmp_path / "log"
    try:
        environment["RAY_ADDRESS"] = cluster.address
        with log.open("w") as said:
            run = subprocess.Popen(
                command(tmp_path, "ray", "--executor", "ray", "--jobs", "2"), cwd=HERE, env=environment, stderr=said, stdout=said
            )
            here = os.getsid(0)
            assert until(lambda: living(here, named="ray::train plain"), within=120), log.read_text()
            time.sleep(2)
            for process in living(here, named="ray::train plain"):
                os.kill(process, signal.SIGKILL)
            store = tmp_path / "ray.store"
            assert until(lambda: list(store.glob("train/*/meta.json")), within=200), log.read_text()
            assert until(lambda: len(living(here, named="ray::score plain") | living(here, named="ray::attack")) >= 2, within=60)
            cluster.remove_node(second, allow_graceful=False)
            assert run.wait(timeout=400) == 0, log.read_text()
    finally:
        cluster.shutdown()
    lines = log.read_text().splitlines()
    retries = [line for line in lines if "begins again, retry" in line]
    assert any("train plain: its worker was lost" in line for line in retries)
    assert len(retries) >= 2
    expected, found = tables(tmp_path / "local"), tables(tmp_path / "ray")
    assert expected.keys() == found.keys()
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, check_exact=True, obj=name)
    assert list(store.glob("*/.[0-9a-f]*")) == []
    assert list((store / ".claims").iterdir()) == []
    assert until(lambda: not living(os.getsid(0), named="ray::"), within=20), living(os.getsid(0), named="ray::")
