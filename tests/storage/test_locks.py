"""Two processes and one folder; the other process is a real one."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.storage.locks import locked, locked_if_free

OTHER = """
import sys
from pathlib import Path
from harness.storage.locks import locked
with locked(Path(sys.argv[1]), "work"):
    print("ready", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", OTHER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_second_process_waits_and_says_for_whom(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, reached = tmp_path / "lock", threading.Event()

    def second() -> None:
        with locked(path, "train baseline"):
            reached.set()

    with held_elsewhere(path) as process:
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not reached.wait(0.2)
        process.communicate("go on\n")
        waiting.join(timeout=60)
    assert reached.is_set()
    (line,) = caplog.messages
    assert line.startswith(f"train baseline: waiting for process {process.pid} on ")


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_elsewhere(path) as process:
        with locked_if_free(path) as free:
            assert not free
        process.kill()
        process.wait()
        with locked_if_free(path) as free:
            assert free


WAITING = """
import logging, signal, sys
from pathlib import Path
from harness.storage.locks import locked
logging.basicConfig(format="%(message)s")
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with locked(Path(sys.argv[1]), "train baseline"):
        print("reached")
except KeyboardInterrupt:
    print("stopped")
"""


@contextmanager
def waiting_for(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Gives a process that waits for a lock, once it has said so."""
    command = [sys.executable, "-c", WAITING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            if sys.platform == "linux":
                assert line.endswith("which is stopped; SIGCONT lets it go on\n")
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("ended", [signal.SIGCONT, signal.SIGKILL])
def test_who_waits_for_a_stopped_process_can_be_stopped_and_else_goes_on_once_that_does_or_is_killed(
    tmp_path: Path, ended: signal.Signals
) -> None:
    path = tmp_path / "lock"
    with held_elsewhere(path) as holder:
        holder.send_signal(signal.SIGSTOP)
        with waiting_for(path) as first:
            first.send_signal(signal.SIGINT)
            assert first.communicate(timeout=60) == ("stopped\n", "")
        with waiting_for(path) as second:
            holder.send_signal(ended)
            if ended is signal.SIGCONT:
                holder.communicate("go on\n")
            assert second.communicate(timeout=60) == ("reached\n", "")
    assert not path.exists()


FORKING = """
import os, sys, time
from pathlib import Path
from harness.storage.locks import locked
with locked(Path(sys.argv[1]), "work"):
    if os.fork() == 0:
        print("ready", flush=True)
        time.sleep(60)
        os._exit(0)
    sys.stdin.readline()
"""


def test_lock_of_a_killed_process_is_free_though_a_child_of_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", FORKING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.kill()
            process.wait()
            os.killpg(process.pid, 0)  # the child lives
            with locked_if_free(path) as free:
                assert free
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_forked_child_neither_frees_nor_removes_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, "work"):
        if (child := os.fork()) == 0:
            code = 1
            try:
                with locked_if_free(path) as free:
                    code = int(free)
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert path.is_file()
    assert not path.exists()


def test_lock_leaves_no_file_and_can_be_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "lock"
    for _ in range(2):
        with locked(path, "work"):
            assert path.is_file()
        assert not path.exists()


def test_only_one_of_many_holds_a_lock_at_a_time(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "lock", [], []

    def work(number: int) -> None:
        for _ in range(20):
            with locked(path, "work"):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert most == [1] * 80
