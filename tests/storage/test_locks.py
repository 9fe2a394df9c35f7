"""Two processes and one folder; the other process is a real one."""

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
