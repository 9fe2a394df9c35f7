"""Runs independent steps of a plan at the same time, each in a process of its own."""

import logging
import pickle
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from harness.errors import HarnessError
from harness.executors.local import Interrupted, StepReport, execute, settled
from harness.executors.worker import work
from harness.records import Status
from harness.steps.base import Context, Step
from harness.system.interrupts import blocked
from harness.system.progress import Silent
from harness.system.progress_relay import Screen

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds that a worker has to clean up after it is told to stop."""


def execute_in_processes(steps: Iterable[Step], context: Context, *, jobs: int) -> dict[str, StepReport]:
    """Runs steps like `harness.executors.local.execute`, up to `jobs` of them at once.

    A step begins as soon as those it depends on are finished; among several that can begin, in the given order. Every
    process computes with its share of torch's threads. Context and steps must be picklable, and a script must guard its
    main part with `if __name__ == "__main__"`.

    Args:
        steps: The steps, each after all those it depends on.
        context: Where to run.
        jobs: Number of processes; with one the steps run in this process.

    Returns:
        See `execute`. A step whose process was killed has failed; the others go on.

    Raises:
        Interrupted: see `execute`.
        HarnessError: if fewer than one job is asked for, or the context or a step can't be sent to another process.
    """
    if jobs < 1:
        raise HarnessError(f"jobs: expected a whole number >= 1, got {jobs}")
    if jobs == 1:
        return execute(steps, context)
    ordered, reports = list(steps), dict[str, StepReport]()
    try:
        with _crew(context, jobs) as crew:
            waiting = list(ordered)
            while len(reports) < len(ordered):
                waiting = list(_not_begun(waiting, context, crew, reports=reports))
                reports.update(crew.finished())
    except KeyboardInterrupt as interrupt:
        raise Interrupted(reports) from interrupt
    return reports


def _not_begun(waiting: Sequence[Step], context: Context, crew: "_Crew", *, reports: dict[str, StepReport]) -> Iterator[Step]:
    """Settles what needs no computing, begins what can begin, and yields the other steps."""
    for step in waiting:
        ready = all(needed.digest in reports for needed in step.inputs.values())
        if ready and (report := settled(step, context, reports)) is not None:
            reports[step.digest] = report
        elif ready and crew.has_room:
            crew.begin(step)
        else:
            yield step


@dataclass
class _Worker:
    """A process, the line to it, and what it is at."""

    process: BaseProcess
    connection: Connection
    screen: Screen
    step: Step | None = None

    @property
    def title(self) -> str:
        """What its step is called."""
        return self.step.title if self.step is not None else ""

    def hear(self) -> StepReport | None:
        """Shows what the worker tells, and returns the report of its step if that has ended, whichever way."""
        alive = self.process.is_alive()
        try:
            while self.connection.poll():
                if isinstance(message := self.connection.recv(), StepReport):
                    return self._ended(message)
                self.screen.show(message, prefix=f"{self.title}: ")
        except (EOFError, ConnectionResetError):
            self.process.join(PATIENCE)
            alive = False
        return None if alive else self._ended(self._loss())

    def _ended(self, report: StepReport) -> StepReport:
        self.screen.give_up()
        return report

    def _loss(self) -> StepReport:
        code = self.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = "; is there enough memory for so many jobs?" if code == -signal.SIGKILL else ""
        logger.error("%s failed: its process %s%s", self.title, how, hint)
        return StepReport(Status.FAILED, f"its process {how}{hint}")


@dataclass
class _Crew:
    """The workers; they are started when they are first needed, and anew in place of those that are killed."""

    context: Context
    jobs: int
    threads: int
    workers: list[_Worker] = field(default_factory=list)

    @property
    def has_room(self) -> bool:
        """Whether another step can begin."""
        return sum(worker.step is not None for worker in self.workers) < self.jobs

    def begin(self, step: Step) -> None:
        """Gives a step to a worker that has none."""
        worker = next((worker for worker in self.workers if worker.step is None), None) or self._started()
        logger.info("begins: %s", step.title)
        with _one_clear_line(step.title), suppress(BrokenPipeError):  # of a lost worker `hear` tells
            worker.connection.send(step)
        worker.step = step

    def finished(self) -> dict[str, StepReport]:
        """Waits until a worker that is at a step tells something; returns the reports of the steps that have ended."""
        if not (busy := [worker for worker in self.workers if worker.step is not None]):
            return {}
        wait([source for worker in busy for source in (worker.connection, worker.process.sentinel)])
        found: dict[str, StepReport] = {}
        for worker in busy:
            if worker.step is not None and (report := worker.hear()) is not None:
                found[worker.step.digest], worker.step = report, None
        self.workers = [worker for worker in self.workers if worker.step is not None or worker.process.is_alive()]
        return found

    def dismiss(self) -> None:
        """Ends all workers; those at a step get time to clean up, and what they could not is removed for them."""
        for worker in self.workers:
            if worker.step is None:
                worker.connection.close()
            else:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(PATIENCE)
            worker.process.kill()
            worker.process.join()
            worker.connection.close()
        self.context.store.remove_left_behind()

    def _started(self) -> _Worker:
        here, there = get_context("spawn").Pipe()
        level = logging.getLogger("harness").getEffectiveLevel()
        arguments = (there, replace(self.context, progress=Silent()), self.threads, level)
        process = get_context("spawn").Process(target=work, args=arguments)
        with _one_clear_line("data"), blocked(signal.SIGINT):  # a terminal sends Ctrl-C to all: workers are stopped by this one
            process.start()
        there.close()
        self.workers.append(_Worker(process, here, Screen(self.context.progress)))
        return self.workers[-1]


@contextmanager
def _crew(context: Context, jobs: int) -> Iterator[_Crew]:
    crew = _Crew(context, jobs, threads=max(1, torch.get_num_threads() // jobs))
    try:
        yield crew
    finally:
        crew.dismiss()


@contextmanager
def _one_clear_line(what: str) -> Iterator[None]:
    try:
        yield
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise HarnessError(f"{what}: with several jobs expected what can be pickled, got {error}") from error
