"""Runs the command line as a program, also as `python -m harness`, which ends as soon as it has said its last word.

Python takes its modules apart at the end, one object after the other. With torch and what builds on it loaded that is two seconds
of computing, many more on a busy machine: too long after Ctrl-C.
"""

import atexit
import os
import sys

from harness.cli.main import main


class _End:
    """The end of the process, once everything that asked to be called at the end has been."""

    def __init__(self) -> None:
        self.code: int | None = None

    def leave(self) -> None:
        """Ends the process; does nothing where no exit code is known, or what was printed cannot be written."""
        if self.code is None:
            return
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            return
        os._exit(self.code)


def run() -> None:
    """Runs the command line as a program of its own; `harness.cli.main.main` is for callers that go on."""
    end = _End()
    atexit.register(end.leave)  # called last, as it is registered first
    try:
        main()
    except SystemExit as stop:
        end.code = stop.code if isinstance(stop.code, int) else None
        raise


if __name__ == "__main__":
    run()
