"""Runs the steps of a plan as tasks of Ray: on a cluster of its own on this machine, or on the one that RAY_ADDRESS names."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from harness.errors import HarnessError, StoreError, first_line
from harness.executors.base import StepReport
from harness.executors.cluster_session import Session
from harness.executors.local import found, reason_of
from harness.executors.schedule import schedule
from harness.records import FINISHED, Status
from harness.steps.base import Context, Step
from harness.steps.train import Train
from harness.system.children import refuse_unguarded
from harness.system.lazy import ray
from harness.system.progress_relay import Screen

logger = logging.getLogger(__name__)

MAX_RETRIES = 3
"""Times that a step begins again after its worker or node was lost."""
NEWS_INTERVAL = 0.2
"""Seconds between two looks at the workers' messages."""
PATIENCE = 1.0
"""Seconds that tasks have to clean up when the run is stopped; to end Ray takes two more."""
VISIBLE_WITHIN = 60.0
"""Seconds after which a network file system shows what another machine wrote: NFS keeps what it knows of a folder no longer
(acdirmax of nfs(5))."""
LOST = {
    "OutOfMemoryError": "Ray ended its worker, as the node's memory was full",
    "NodeDiedError": "its node was lost",
    "WorkerCrashedError": "its worker was lost",
    "LocalRayletDiedError": "its node was lost",
    "ObjectLostError": "its report was lost with a node",
    "TaskCancelledError": "its node was shut down",
}
"""Ray's errors that say nothing of the step itself, in words."""


def execute_on_ray(steps: Iterable[Step], context: Context, *, jobs: int) -> dict[str, StepReport]:
    """Runs steps like `harness.executors.processes.execute_in_processes`, up to `jobs` of them at once, as tasks of Ray.

    Every task has its share of the processors, and of GPUs where the device is one. A step whose worker or node is lost begins
    again, up to `MAX_RETRIES` times; one whose own code fails has failed. Ray starts with the first step that is not stored.

    Args:
        steps: The steps, each after all those it depends on.
        context: Where to run; all nodes must see the store, and the files of the data, under the same paths.
        jobs: Number of steps at once.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM.
        HarnessError: if fewer than one job is asked for, the device is one of several GPUs, or Ray cannot be started or reached.
    """
    if jobs < 1:
        raise HarnessError(f"jobs: expected a whole number >= 1, got {jobs}")
    if ":" in str(context.device_or_name):
        raise HarnessError(f"device: expected cuda or cpu, as Ray chooses the GPU of each step, got {context.device_or_name}")
    refuse_unguarded()
    with _cluster(context, jobs) as cluster:
        return schedule(steps, cluster, stored=partial(found, context=context))


class Share(NamedTuple):
    """What a task asks of a node."""

    cpus: int
    gpus: float = 0.0

    def fits(self, node: Mapping[str, float]) -> bool:
        """Returns whether a node with these resources can ever run it."""
        return self.cpus <= node.get("CPU", 0.0) and self.gpus <= node.get("GPU", 0.0)


def share_of(step: Step, nodes: Iterable[Mapping[str, float]], *, jobs: int, on_gpu: bool) -> Share:
    """Returns a step's share: the processors divided by the jobs, as far as that fits into nodes; on GPUs one of them, or a part.

    A training that several devices share asks for all of them, in one node.

    Args:
        step: The step.
        nodes: The resources of each node.
        jobs: Number of steps at once.
        on_gpu: Whether it computes on GPUs.
    """
    processors, gpus = zip(*((int(node.get("CPU", 0.0)), int(node.get("GPU", 0.0))) for node in nodes), strict=True)
    devices = step.devices if isinstance(step, Train) else 1
    least = 1 if on_gpu else devices
    cpus = min(max(sum(processors) // jobs, least), max(1, *processors))
    while cpus > least and sum(count // cpus for count in processors) < jobs:  # a task lies in one node
        cpus -= 1
    if not on_gpu:
        return Share(cpus)
    sharing = -(-jobs // sum(gpus)) if sum(gpus) else 1
    return Share(cpus, devices if devices > 1 else 1 / sharing)


@dataclass
class _Task:
    """A step that Ray computes."""

    step: Step
    share: Share
    screen: Screen
    losses: int = 0
    """How often its worker or node was lost."""
    heard: int = -1
    """The number of the last message of this attempt."""
    future: Any = None
    """Ray's reference to its report."""

    @property
    def sender(self) -> str:
        """Names this attempt in its messages."""
        return f"{self.step.digest}.{self.losses}"


@dataclass
class _Cluster:
    """The tasks: a place of `harness.executors.schedule`."""

    context: Context
    jobs: int
    session: Session
    tasks: dict[str, _Task] = field(default_factory=dict)
    """Digest -> task, of the steps that are computed."""

    @property
    def has_room(self) -> bool:
        """Whether another step can begin."""
        return len(self.tasks) < self.jobs

    def begin(self, step: Step) -> None:
        """Gives a step to Ray; starts that before the first one."""
        self.session.start()
        with _reaching_ray():
            nodes = self.session.nodes()
        on_gpu = str(self.context.device_or_name) == "cuda"
        share = share_of(step, nodes, jobs=self.jobs, on_gpu=on_gpu)
        if not any(map(share.fits, nodes)):
            logger.warning("%s: waits for a node with %d CPUs and %g GPUs; the cluster has none now", step.title, *share)
        task = self.tasks[step.digest] = _Task(step, share, Screen(self.context.progress))
        self._submit(task)

    def finished(self) -> dict[str, StepReport]:
        """Waits a moment for tasks to end, and shows what the workers say; returns the reports of the steps that have ended."""
        futures = [task.future for task in self.tasks.values()]
        with _reaching_ray():
            ray.wait(futures, num_returns=1, timeout=NEWS_INTERVAL)
            ready, _ = ray.wait(futures, num_returns=len(futures), timeout=0)
        self._show()  # what a task that has ended said before
        ended = {task.step.digest: self._report_of(task) for task in list(self.tasks.values()) if task.future in ready}
        return {digest: report for digest, report in ended.items() if report is not None}

    def dismiss(self) -> None:
        """Ends all tasks: they get time to clean up; then what they left half written is removed."""
        futures = [task.future for task in self.tasks.values() if task.future is not None]
        try:
            if futures:
                _cancel(futures)
        finally:
            for task in self.tasks.values():
                task.screen.give_up()
            self.session.end()
            self.context.store.remove_left_behind()

    def _submit(self, task: _Task) -> None:
        task.future = self.session.submit(task.step, sender=task.sender, cpus=task.share.cpus, gpus=task.share.gpus)

    def _show(self) -> None:
        """Shows what the present attempts say; with a node some of it may be lost, and come twice."""
        tasks = {task.sender: task for task in self.tasks.values()}
        for sender, number, message in self.session.messages():
            if sender in tasks and number > tasks[sender].heard:
                tasks[sender].heard = number
                tasks[sender].screen.show(message, prefix=f"{tasks[sender].step.title}: ")

    def _report_of(self, task: _Task) -> StepReport | None:
        """Returns the report of a task that has ended; None where its worker was lost and it has begun again."""
        task.screen.give_up()
        try:
            report: StepReport = ray.get(task.future)
        except ray.exceptions.RayError as error:
            if (lost := _words_of_loss(error)) and self._begins_again(task, lost):
                return None
            report = self._failed(task, f"{lost} {task.losses} times", "") if lost else self._failed(task, *_failure(error))
        if report.status in FINISHED and not self._is_seen_here(task.step):
            place = self.context.store.root
            report = self._failed(
                task, f"a worker computed it, but it is not in {place}; is that on a file system that all see?", ""
            )
        del self.tasks[task.step.digest]
        return report

    def _begins_again(self, task: _Task, lost: str) -> bool:
        """Gives a lost task to Ray again, unless that was done too often; returns whether it did."""
        task.losses, task.heard = task.losses + 1, -1
        if task.losses > MAX_RETRIES:
            return False
        logger.warning("%s: %s; begins again, retry %d of %d", task.step.title, lost, task.losses, MAX_RETRIES)
        self._submit(task)
        return True

    def _failed(self, task: _Task, reason: str, trace: str) -> StepReport:
        logger.error("%s failed: %s", task.step.title, reason)
        return StepReport(Status.FAILED, reason, trace=trace)

    def _is_seen_here(self, step: Step) -> bool:
        """Returns whether a step's result is in the store as this process sees it; a network file system may take its time."""
        latest = time.monotonic() + VISIBLE_WITHIN
        with suppress(StoreError):
            while self.context.entry(step) is None:
                if time.monotonic() > latest:
                    return False
                with suppress(OSError):
                    list((self.context.store.root / step.KIND).iterdir())  # makes the file system ask again
                time.sleep(NEWS_INTERVAL)
        return True


def _cancel(futures: list[Any]) -> None:
    """Stops tasks, at first so that they can clean up; a connection that is lost stops them by itself."""
    try:
        for future in futures:
            ray.cancel(future, force=False)
        _, left = ray.wait(futures, num_returns=len(futures), timeout=PATIENCE)
        for future in left:
            ray.cancel(future, force=True)
    except Exception as error:  # Ray's own classes, and those of its connection
        logger.debug("tasks could not be stopped: %s", error)


@contextmanager
def _cluster(context: Context, jobs: int) -> Iterator[_Cluster]:
    cluster = _Cluster(context, jobs, Session(context, jobs))
    try:
        yield cluster
    finally:
        cluster.dismiss()


@contextmanager
def _reaching_ray() -> Iterator[None]:
    """Turns the loss of the cluster itself into one line; what is finished is in the store."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise HarnessError(f"executor: the connection to Ray is lost; the same command goes on: {first_line(error)}") from error


def _words_of_loss(error: Exception) -> str:
    """Returns in words what was lost; empty for an error of the step or its setting."""
    for kind in type(error).__mro__:  # the error of a task is of its own class and of that of its cause
        if kind.__name__ in LOST:
            return LOST[kind.__name__]
    return ""


def _failure(error: Exception) -> tuple[str, str]:
    """Returns in one line why Ray could not run a step, and the traceback."""
    cause = getattr(error, "cause", None)
    return reason_of(cause if isinstance(cause, BaseException) else error), str(error)
