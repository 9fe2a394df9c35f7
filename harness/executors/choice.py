"""Which executor runs a plan's steps: the one for this machine, or one that another package brings."""

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Protocol, cast

from harness.errors import HarnessError
from harness.executors.base import StepReport
from harness.executors.processes import execute_in_processes
from harness.steps.base import Context, Step

LOCAL = "local"
GROUP = "harness.executors"
"""Entry points of other executors."""


class Executor(Protocol):
    """Runs steps, each after those it depends on; see `harness.executors.processes.execute_in_processes`."""

    def __call__(self, steps: Iterable[Step], context: Context, *, jobs: int) -> dict[str, StepReport]:
        """Returns digest -> what became of that step."""
        ...


def executor_of(name: str) -> Executor:
    """Returns the executor of that name.

    Raises:
        HarnessError: if it is not installed.
    """
    if name == LOCAL:
        return execute_in_processes
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        names = ", ".join(sorted({LOCAL, *found}))
        raise HarnessError(f"executor: expected one that is installed ({names}), got {name!r}")
    return cast(Executor, found[name].load())
