"""Child processes that die, hang or are left alone; those here import no torch, so that each starts in a moment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from harness.system.children import Child, Lost, await_news, end, started

MUCH = bytes(10**7)
"""More than a pipe or a socket takes at once."""
ENTRIES = """
import os
import time

def echo(connection):
    while True:
        connection.send(connection.recv()[:3])

def spin(connection):
    connection.recv()
    connection.send(os.getpid())
    while True:
        pass

def die(connection):
    connection.recv()
    os._exit(4)
"""
PARENT = """
import signal
import sys
import time
from harness.system.children import await_news, end, started
if __name__ == "__mp_main__":
    time.sleep({delay})
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with SIGINT ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    child = started("child_entries:spin")
    try:
        child.send(bytes(10**7))
        print(child.process.pid, flush=True)
        while True:
            await_news([child])
            for message in child.told():
                print("told", flush=True)
    finally:
        end([child])
        print("ended", flush=True)
"""


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose module `child_entries` children can import."""
    (tmp_path / "child_entries.py").write_text(ENTRIES)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run_as_main(monkeypatch: pytest.MonkeyPatch, script: Path, text: str) -> None:
    """Lets children import this script as the one that their parent runs."""
    script.write_text(text)
    main = ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)


def messages_of(child: Child) -> Iterator[object]:
    """Yields what a child tells until it is lost."""
    message: object = None
    while not isinstance(message, Lost):
        await_news([child])
        for message in child.told():
            yield message


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("import sys\nif __name__ == '__mp_main__':\n    sys.exit(3)", "ended with exit code 3 while it started; a likely cause"),
        ("import sys\nsys.exit(0)", "ended with exit code 0 while it started; a likely cause is a script that does not guard"),
        ("raise ValueError", "ended with exit code 1 while it started; a likely cause is a script that does not guard"),
        ("import os\nos.kill(os.getpid(), 9)", "was killed by SIGKILL while it started"),
        ("from harness.system.children import refuse_unguarded\nrefuse_unguarded()", "ended with exit code 78 while it started"),
    ],
)
@pytest.mark.timeout(60)
def test_child_that_dies_while_it_starts_is_told_of(
    entries: Path, monkeypatch: pytest.MonkeyPatch, script: str, how: str
) -> None:
    run_as_main(monkeypatch, entries / "script.py", script)
    child = started("child_entries:echo")
    child.send(MUCH)
    (lost,) = messages_of(child)
    assert isinstance(lost, Lost)
    assert lost.reason.startswith(how)
    assert ('if __name__ == "__main__"' in lost.reason) == (lost.code >= 0)
    end([child])


@pytest.mark.timeout(60)
def test_interpreter_that_cannot_be_started_is_told_of(entries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.spawn._python_exe", os.fsencode("/bin/false"))
    child = started("child_entries:echo")
    child.send(MUCH)
    (lost,) = messages_of(child)
    assert isinstance(lost, Lost)
    assert lost.code == 1
    end([child])


@pytest.mark.timeout(60)
def test_child_answers_and_its_end_is_told_of(entries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_as_main(monkeypatch, entries / "script.py", "")
    child, dying = started("child_entries:echo"), started("child_entries:die")
    dying.send(MUCH)
    for part in (MUCH, b"abcd"):
        child.send(part)
    heard = messages_of(child)
    assert [next(heard), next(heard)] == [MUCH[:3], b"abc"]
    assert list(messages_of(dying)) == [Lost("ended with exit code 4", 4)]
    end([child, dying])
    assert child.process.exitcode == -signal.SIGTERM


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone_after(process: int) -> float:
    """Returns the seconds until a process has ended."""
    started_at = time.monotonic()
    while lives(process) and time.monotonic() < started_at + 30:
        time.sleep(0.01)
    return time.monotonic() - started_at


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
@pytest.mark.timeout(60)
def test_child_ends_with_its_parent_even_if_it_never_rests(entries: Path) -> None:
    with parent_of(entries, delay=0) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "told\n"
        parent.kill()
        assert gone_after(child) < 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.timeout(60)
def test_signals_come_through_while_a_child_starts(entries: Path, number: signal.Signals) -> None:
    with parent_of(entries, delay=600) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)  # the parent waits by now
        parent.send_signal(number)
        assert parent.stdout.readline() == "ended\n"
        assert not lives(child)


@contextmanager
def parent_of(folder: Path, *, delay: float) -> Iterator["subprocess.Popen[str]"]:
    script = folder / "parent.py"
    script.write_text(PARENT.format(delay=delay))
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{folder}"}
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as parent:
        try:
            yield parent
        finally:
            parent.kill()
