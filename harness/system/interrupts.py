"""Signals that ask a program to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def blocked(*signals: signal.Signals) -> Iterator[None]:
    """Holds signals back until the block ends; processes that are started in it never get them, unless they unblock them.

    The mask, which those processes inherit, is this thread's own: a signal that the kernel gives to another thread is noted
    instead, and raised again at the end. (Python lets only the main thread note signals, and acts on them only there.)
    """
    resource_tracker.ensure_running()  # multiprocessing starts it with its first process, and then unblocks both signals
    held: set[int] = set()
    here = signals if threading.current_thread() is threading.main_thread() else ()
    handlers = {wanted: signal.signal(wanted, lambda caught, _: held.add(caught)) for wanted in here}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        for wanted, handler in handlers.items():
            signal.signal(wanted, signal.SIG_DFL if handler is None else handler)  # None: not set from Python
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in held:
            signal.raise_signal(number)
