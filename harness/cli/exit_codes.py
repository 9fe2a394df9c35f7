"""What the command line exits with, and what it says of an error."""

import errno
import traceback
from collections.abc import Callable
from typing import Any

from harness.cli import console
from harness.errors import HarnessError

BAD_INPUT = 2
CHECK_FAILED = 1
INTERRUPTED = 130
"""What a shell reports of a program that Ctrl-C ended."""
STOPPED = "harness: stopped; the same command goes on"
UNEXPECTED = 70
"""An error that is no HarnessError: EX_SOFTWARE of sysexits.h."""
USERS_TO_SOLVE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR})
"""Errors of the operating system that are no defect: a file that may not be read, a name that is too long."""


def exit_code(call: Callable[[], Any], *, debug: bool) -> int:
    """Returns what a call exits with; its errors become one or two lines on stderr, with a traceback where `debug`."""
    try:
        call()
    except HarnessError as error:
        if debug:
            traceback.print_exc()
        console.stderr.print(f"harness: {error}", markup=False)
        return BAD_INPUT
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    except Exception as error:  # the last boundary: a defect of the harness or of a plug-in
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in USERS_TO_SOLVE:
            console.stderr.print(f"harness: {error.filename}: expected a usable path, found {error.strerror}", markup=False)
            return BAD_INPUT
        console.stderr.print(f"harness: unexpected {type(error).__name__}: {error}; --debug shows where", markup=False)
        return UNEXPECTED
    except KeyboardInterrupt:
        console.stderr.print(STOPPED)
        return INTERRUPTED
    return 0
