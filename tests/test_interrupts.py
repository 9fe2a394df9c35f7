"""Signals are held back whichever thread the kernel gives them to."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from harness.interrupts import blocked


@pytest.fixture
def another_thread() -> Iterator[None]:
    """A thread that does not hold signals back, like those that compute."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.usefixtures("another_thread")
def test_signal_comes_through_when_the_block_ends() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), blocked(signal.SIGINT):  # noqa: PT012 - the block must run to its end
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.usefixtures("another_thread")
def test_block_without_a_signal_leaves_nothing_behind() -> None:
    with blocked(signal.SIGINT, signal.SIGTERM):
        assert {signal.SIGINT, signal.SIGTERM} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_other_threads_may_hold_signals_back_too() -> None:
    masks: list[set[int]] = []

    def hold() -> None:
        with blocked(signal.SIGINT):
            masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert signal.SIGINT in masks[0]
