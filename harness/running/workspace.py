"""A suite's plan with the place where its finished steps lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.datasets.verified import verified_for_evaluation
from harness.errors import HarnessError, ModelError
from harness.executors.base import Interrupted
from harness.executors.local import execute
from harness.planning.plan import Plan, plan_of
from harness.steps.base import Context, Step
from harness.steps.poison import TrainedModel
from harness.storage.store import Store
from harness.suites.base import Variant
from harness.suites.suite import Suite
from harness.system.device import may_have_gpu
from harness.system.lazy import torch
from harness.system.messages import shown
from harness.system.progress import Progress, Silent

DEFAULT_RESULTS = Path("results")
STORE_FOLDER = ".store"
"""The store lies beside the results unless another place is named."""
CPU = "cpu"


def resolve_device(name: str) -> torch.device:
    """Returns the device of that name; "auto" is the first GPU if there is one, else the CPU.

    Raises:
        HarnessError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    expected = "expected auto, cpu, or a device of this machine"
    try:
        device = torch.device(name)
        if device.type == "meta":  # it computes nothing
            raise RuntimeError
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        found = f", and {_cuda_found()}" if name.startswith("cuda") else ""
        raise HarnessError(f"device: {expected}, got {shown(name)}{found}") from error
    return device


def device_or_name(name: str) -> torch.device | str:
    """Returns the device of that name; for the CPU its name, as a device needs PyTorch's import.

    Raises:
        HarnessError: if there is no such device.
    """
    is_cpu = name == CPU or (name == "auto" and not may_have_gpu())
    return CPU if is_cpu else resolve_device(name)


def _cuda_found() -> str:
    """Returns which CUDA GPUs there are, in words."""
    if not torch.cuda.is_available():
        return "no CUDA GPU was found" if torch.backends.cuda.is_built() else "this build of PyTorch has no CUDA"
    count = torch.cuda.device_count()
    return f"the CUDA GPUs found are {', '.join(f'cuda:{place}' for place in range(count))}"


@dataclass(frozen=True)
class Workbench:
    """A suite's plan with the place where its finished steps lie."""

    plan: Plan
    context: Context

    def training(self, variant: Variant) -> TrainedModel:
        """Returns the finished training of a model.

        Raises:
            ModelError: if it is not in the store, is damaged there, or can't be made.
        """
        step = self.plan.training.get(variant)
        entry = None if step is None else self.context.entry(step)
        if step is None or entry is None:
            raise ModelError(
                f"{variant.name}: expected a finished training in {self.context.store.root}, found none; "
                f"`harness run` of the suite {self.plan.suite.name} makes it"
            )
        if damaged := self.context.store.damaged_files(entry):
            again = f"`harness run` of the suite {self.plan.suite.name} trains it anew"
            raise ModelError(f"{variant.name}: its stored result is damaged ({damaged[0]}); {again}")
        return step

    def finish(self, *steps: Step) -> list[str]:
        """Runs what is missing of some steps and of those they depend on; returns why steps have no result.

        Returns:
            One line for each step that has no result.

        Raises:
            KeyboardInterrupt: on Ctrl-C; what is finished is kept.
        """
        wanted: dict[str, Step] = {}
        for step in steps:
            self._collect(step, wanted)
        try:
            reports = execute(wanted.values(), self.context)
        except Interrupted as stopped:
            raise KeyboardInterrupt from stopped
        return [f"{wanted[digest].title}: {report.reason}" for digest, report in reports.items() if report.reason]

    def _collect(self, step: Step, wanted: dict[str, Step]) -> None:
        """Adds a step to `wanted`, after those that it still needs."""
        if self.context.entry(step) is None:
            for needed in step.inputs.values():
                self._collect(needed, wanted)
        wanted[step.digest] = step


def open_workbench(
    suite: Suite, *, store: Path | None = None, device: str = "cpu", progress: Progress | None = None
) -> Workbench:
    """Returns a suite's plan on its loaded data, with its store.

    Raises:
        HarnessError: if the data is missing, or there is no such device.
    """
    data = verified_for_evaluation(suite.dataset.load())
    context = Context(
        store=Store(store or DEFAULT_RESULTS / STORE_FOLDER),
        data=data,
        device=resolve_device(device),
        batch_size=suite.evaluation.batch_size,
        progress=progress or Silent(),
    )
    return Workbench(plan_of(suite, data), context)
