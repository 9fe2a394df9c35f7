"""Signals are held back whichever thread the kernel gives them to."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from harness.system.interrupts import blocked


@pytest.fixture
def another_thread() -> Iterator[None]:
    """A thread that does not hold signals back, like those that compute."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.fixture
def own_handler() -> Iterator[None]:
    """Ctrl-C as Python takes it, whatever the tests were started from."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("another_thread", "own_handler")
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
    wanted = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in wanted]
    with blocked(*wanted):
        assert set(wanted) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert [signal.getsignal(number) for number in wanted] == handlers
    assert not set(wanted) & signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_other_threads_may_hold_signals_back_too() -> None:
    masks: list[set[int]] = []

    def hold() -> None:
        with blocked(signal.SIGINT):
            masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert signal.SIGINT in masks[0]
