"""Runs independent steps of a plan at the same time, each in its own process."""

import logging
import pickle
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from harness.errors import HarnessError
from harness.executors.base import StepReport
from harness.executors.local import execute, found
from harness.executors.schedule import schedule
from harness.executors.worker import Settings
from harness.records import Status
from harness.steps.base import Context, Step
from harness.system import children
from harness.system.children import Child, Lost, refuse_unguarded
from harness.system.device import torch_threads
from harness.system.progress import Silent
from harness.system.progress_relay import Message, Screen

logger = logging.getLogger(__name__)

WORKER = "harness.executors.worker:work"


def execute_in_processes(steps: Iterable[Step], context: Context, *, jobs: int) -> dict[str, StepReport]:
    """Runs steps like `harness.executors.local.execute`, up to `jobs` of them at once; returns their reports by digest.

    A step begins as soon as those it depends on are finished. Among several that can begin, the given order decides. Every
    process computes with its share of torch's threads. Context and steps must be picklable, and a script must guard its
    main part with `if __name__ == "__main__"`.

    Args:
        steps: The steps, each after all those it depends on.
        context: Where to run.
        jobs: Number of processes; with one the steps run in this process.

    Returns:
        See `execute`. A step whose process was killed, or could not start, has failed; the others go on.

    Raises:
        Interrupted: see `execute`.
        HarnessError: if fewer than one job is asked for, or the context or a step can't be sent to another process.
    """
    if jobs < 1:
        raise HarnessError(f"jobs: expected a whole number >= 1, got {jobs}")
    if jobs == 1:
        return execute(steps, context)
    refuse_unguarded()
    with _crew(context, jobs) as crew:
        return schedule(steps, crew, stored=partial(found, context=context))


@dataclass
class _Worker:
    """A process with the step that it computes."""

    child: Child
    screen: Screen
    step: Step | None = None

    def hear(self) -> StepReport | Lost | None:
        """Shows the worker's progress; returns the report of its step if that has ended, or `Lost` if the worker has."""
        for message in self.child.told():
            if isinstance(message, StepReport | Lost):
                self.screen.give_up()
                return message
            self.screen.show(cast(Message, message), prefix="" if self.step is None else f"{self.step.title}: ")
        return None


@dataclass
class _Crew:
    """The workers: a place of `harness.executors.schedule`.

    A worker is started when it is first needed, and again in place of one that was killed. Where one ends by itself before any
    has started, no other is started.
    """

    context: Context
    jobs: int
    threads: int
    workers: list[_Worker] = field(default_factory=list)
    ended: dict[str, StepReport] = field(default_factory=dict)
    """Reports that `finished` has not returned yet."""
    works: bool = False
    """Whether any worker has started."""
    unable: str = ""
    """Why none can be started."""

    @property
    def has_room(self) -> bool:
        """Whether another step can begin."""
        return sum(worker.step is not None for worker in self.workers) < self.jobs

    def begin(self, step: Step) -> None:
        """Gives a step to a worker that has none."""
        worker = next((worker for worker in self.workers if worker.step is None), None)
        if worker is None and self.unable and not self.works:
            self._lose(step, self.unable)
            return
        try:
            worker = worker or self._started()
        except OSError as error:
            self._lose(step, f"its process cannot be started: {error.strerror or error}")
            return
        with _one_clear_line(step.title):
            worker.child.send(step)
        worker.step = step

    def finished(self) -> dict[str, StepReport]:
        """Waits until a worker with a step sends something; returns the reports of the steps that have ended."""
        busy = [worker for worker in self.workers if worker.step is not None]
        if busy and not self.ended:
            children.await_news(worker.child for worker in busy)
        for worker in busy:
            self._take(worker.hear(), worker)
        for worker in [worker for worker in self.workers if worker.step is None and not worker.child.process.is_alive()]:
            self._remove(worker)
        ended, self.ended = self.ended, {}
        return ended

    def dismiss(self) -> None:
        """Ends all workers: those with a step get time to clean up; then what they left half written is removed."""
        children.end(worker.child for worker in self.workers)
        self.context.store.remove_left_behind()

    def _take(self, heard: StepReport | Lost | None, worker: _Worker) -> None:
        """Takes the message of a worker with a step."""
        self.works |= worker.child.listens
        if heard is None or worker.step is None:
            return
        if isinstance(heard, Lost):
            hint = "; is there enough memory for so many jobs?" if heard.code == -signal.SIGKILL else ""
            reason = f"its process {heard.reason}{hint}"
            self._lose(worker.step, reason)
            self.unable = "" if heard.code < 0 else reason
            self._remove(worker)
        else:
            self.ended[worker.step.digest] = heard
        worker.step = None

    def _lose(self, step: Step, reason: str) -> None:
        logger.error("%s failed: %s", step.title, reason)
        self.ended[step.digest] = StepReport(Status.FAILED, reason)

    def _remove(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        children.end([worker.child])

    def _started(self) -> _Worker:
        worker = _Worker(children.started(WORKER), Screen(self.context.progress))
        self.workers.append(worker)
        level = logging.getLogger("harness").getEffectiveLevel()
        with _one_clear_line("data"):
            worker.child.send(Settings(replace(self.context, progress=Silent()), self.threads, level))
        return worker


@contextmanager
def _crew(context: Context, jobs: int) -> Iterator[_Crew]:
    crew = _Crew(context, jobs, threads=max(1, torch_threads() // jobs))
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
