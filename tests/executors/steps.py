"""Steps without networks: what an executor does with them is seen in the store."""

import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from harness.errors import HarnessError
from harness.images import ImageData
from harness.steps.base import Context, Step
from harness.storage.store import Store

logger = logging.getLogger("harness.tests")


@dataclass(frozen=True)
class Numbered(Step):
    """Writes its number plus those of its inputs, and where it was computed."""

    KIND: ClassVar[str] = "numbered"
    VERSION: ClassVar[int] = 1

    number: int
    needs: tuple[Step, ...] = field(default=())

    @property
    def title(self) -> str:
        return f"{type(self).__name__.lower()} {self.number}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {str(position): step for position, step in enumerate(self.needs)}

    def identity(self) -> Mapping[str, Any]:
        return {"number": self.number, "class": type(self).__name__}

    def run(self, context: Context, folder: Path) -> None:
        with context.progress.task("count", 1) as advance:
            self.act(context)
            advance(1, "counted")
        total = self.number + sum(value_of(step, context.store) for step in self.needs)
        (folder / "value").write_text(str(total))
        (folder / "process").write_text(f"{os.getpid()} {torch.get_num_threads()}")

    def act(self, context: Context) -> None:
        logger.info("computing %d", self.number)


class Failing(Numbered):
    def act(self, context: Context) -> None:
        raise HarnessError("no luck")


class Killed(Numbered):
    def act(self, context: Context) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Sleeping(Numbered):
    def act(self, context: Context) -> None:
        (context.store.partial(self.digest) / "begun").touch()
        time.sleep(600)


def value_of(step: Step, store: Store) -> int:
    entry = store.get(step.KIND, step.digest)
    assert entry is not None
    return int((entry.path / "value").read_text())


def context_in(folder: Path) -> Context:
    data = ImageData("none", ("a", "b"), {}, content_hash="", cross_split_duplicates=0)
    return Context(store=Store(folder), data=data, device=torch.device("cpu"))
