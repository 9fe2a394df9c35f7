"""A limit to the time that a session may take: the runtime is told to stop between two operators."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import onnxruntime

FATAL = 4
"""ONNX Runtime's number for errors that end the process."""


class Deadline:
    """A point in time that passes of one session end at; it begins to count when it is made.

    Args:
        seconds: How long all passes together may take, or None for any time.
    """

    def __init__(self, seconds: float | None) -> None:
        """See the class."""
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._end is not None and time.monotonic() >= self._end

    @contextmanager
    def options(self) -> Iterator[onnxruntime.RunOptions]:
        """Gives the options of one pass, which ends with an error once the time is over."""
        options = onnxruntime.RunOptions()
        if self._end is None:
            yield options
            return
        options.log_severity_level = FATAL  # the end of the pass arrives as an exception
        timer = threading.Timer(max(self._end - time.monotonic(), 0), lambda: setattr(options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            yield options
        finally:
            timer.cancel()
