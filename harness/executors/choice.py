"""The executor of a name: the one for this machine, the one for a Ray cluster, or one of another package."""

from collections.abc import Iterable
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Protocol, cast

from harness.errors import HarnessError
from harness.executors.base import StepReport
from harness.executors.cluster import execute_on_ray
from harness.executors.processes import execute_in_processes
from harness.steps.base import Context, Step

LOCAL = "local"
RAY = "ray"
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
    if name == RAY:
        if find_spec(RAY) is None:
            raise HarnessError("executor: expected Ray to be installed, found none: pip install 'robustness-harness[ray]'")
        return execute_on_ray
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        names = ", ".join(sorted({LOCAL, RAY, *found}))
        raise HarnessError(f"executor: expected one that is installed ({names}), got {name!r}")
    return cast(Executor, found[name].load())
