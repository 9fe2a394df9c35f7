import subprocess
import sys

SCRIPT = """
import atexit, sys
from harness import __main__ as program

class Heavy:
    def __del__(self):
        print("taken apart")

def main():
    atexit.register(print, "cleaned up")
    print("said")
    {end}

heavy, program.main = Heavy(), main
program.run()
"""


def ran(end: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT.format(end=end)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_program_cleans_up_and_ends_without_taking_itself_apart() -> None:
    done = ran("sys.exit(3)")
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (3, ["said", "cleaned up"], "")


def test_program_that_fails_in_an_unknown_way_ends_as_python_does() -> None:
    done = ran("raise RuntimeError('unknown')")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["said", "cleaned up", "taken apart"]
    assert done.stderr.endswith("RuntimeError: unknown\n")


def test_module_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "harness", "list", "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("harness: family: expected one of suites, ")
