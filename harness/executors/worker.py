"""A worker: a process that computes one step after the other and sends its progress to its parent."""

import signal
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from harness.executors.local import computed
from harness.steps.base import Context
from harness.system.lazy import torch
from harness.system.memory import quick_garbage_collection, reused_memory
from harness.system.progress_relay import Reporter


@dataclass(frozen=True)
class Settings:
    """What a worker gets before its first step."""

    context: Context
    """Where to run; its progress display is replaced."""
    threads: int
    """Threads of torch."""
    level: int
    """Lowest level of the log that is sent."""


def work(connection: Connection) -> None:
    """Computes the steps that come through the connection, until it is closed or SIGTERM comes.

    Args:
        connection: `Settings` come in, then steps; messages of `harness.system.progress_relay` go out, and the `StepReport`
            as the last one of a step.
    """
    try:
        signal.signal(signal.SIGTERM, _stop)
        settings: Settings = connection.recv()
        torch.set_num_threads(settings.threads)
        reporter = Reporter(connection)
        reporter.take_log(settings.level)
        context = replace(settings.context, progress=reporter)
        with quick_garbage_collection():
            while True:
                step = connection.recv()
                with reused_memory():
                    report = computed(step, context)
                reporter.send(report)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _stop(*_: object) -> None:
    """Ends a step as Ctrl-C does, so that it removes what it has half written; a second signal is ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
