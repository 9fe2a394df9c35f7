"""Signals that ask a program to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def blocked(*signals: signal.Signals) -> Iterator[None]:
    """Holds signals back until the block ends; processes that are started in it never get them, unless they unblock them."""
    resource_tracker.ensure_running()  # multiprocessing starts it with its first process, and then unblocks both signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
