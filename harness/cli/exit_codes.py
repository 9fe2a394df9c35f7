"""Exit codes of the command line, and its messages about errors."""

import errno
import traceback
from collections.abc import Callable
from typing import Any

from harness.cli import console
from harness.errors import HarnessError
from harness.system.full_disk import GOES_ON, says_disk_is_full
from harness.system.messages import message_text

BAD_INPUT = 2
CHECK_FAILED = 1
INTERRUPTED = 130
"""Exit code that a shell reports for a program that Ctrl-C ended."""
STOPPED = "harness: stopped; the same command goes on"
UNEXPECTED = 70
"""An error that is no HarnessError: EX_SOFTWARE of sysexits.h."""
USERS_TO_SOLVE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR})
"""Errors of the operating system that are no defect: a file that may not be read, a name that is too long."""


def exit_code(call: Callable[[], Any], *, debug: bool) -> int:
    """Returns the exit code of a call; its errors become one or two lines on stderr, with a traceback where `debug`."""
    try:
        call()
    except HarnessError as error:
        if debug:
            traceback.print_exc()
        console.stderr.print(message_text(f"harness: {error}"), markup=False)
        return BAD_INPUT
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    except Exception as error:  # the last boundary: a defect of the harness or of a plug-in
        if debug:
            traceback.print_exc()
        return _told(error)
    except KeyboardInterrupt:
        console.stderr.print(STOPPED)
        return INTERRUPTED
    return 0


def _told(error: Exception) -> int:
    """Says in one line what is wrong, and returns the exit code: the system's to solve, or a defect."""
    if says_disk_is_full(str(error)):
        said, code = f"{str(error).splitlines()[0]}; {GOES_ON}", BAD_INPUT
    elif isinstance(error, OSError) and error.errno in USERS_TO_SOLVE:
        said, code = f"{error.filename}: expected a usable path, found {error.strerror}", BAD_INPUT
    else:
        said, code = f"unexpected {type(error).__name__}: {error}; --debug shows where", UNEXPECTED
    console.stderr.print(message_text(f"harness: {said}"), markup=False)
    return code
