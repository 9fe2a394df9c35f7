"""The connection to Ray for one run: a cluster of its own on this machine, or the one that RAY_ADDRESS names."""

import importlib
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.executors.cluster_files import own_folder
from harness.executors.cluster_worker import Home, Letter, Mailbox, compute_there
from harness.executors.local import reason_of
from harness.executors.worker import Settings
from harness.steps.base import Context, Step
from harness.storage.locks import locked_if_free
from harness.storage.store import Store
from harness.system.device import torch_threads
from harness.system.lazy import ray
from harness.system.progress import Silent

logger = logging.getLogger(__name__)

ADDRESS = "RAY_ADDRESS"
OWN = "local"
"""Ray's address of a cluster that it starts and ends itself."""
OWN_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""Ray's settings of that cluster: it sends no statistics, and its workers have the priority of this process, not 15."""
SIGN = "run-"
"""Begins the name of the lock that a run holds in the store, by which workers know that store."""
FORWARDED = ("HARNESS_CACHE", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME")
"""Environment variables that workers take over: where files lie that this process has fetched."""
OFFLINE = {"HF_HUB_OFFLINE": "1"}
"""What a suite needs is fetched before its first step, by this process."""
MESSAGES_WITHIN = 1.0
"""Seconds to wait for the mailbox: Ray starts it again where it was lost, and steps go on meanwhile."""
LOG_LEVEL = logging.ERROR
"""Of Ray itself, which else warns of its own defaults."""


@dataclass
class Session:
    """Ray, from the first step that is computed to the end of the run.

    Args:
        context: Where to run.
        jobs: Number of steps at once.
    """

    context: Context
    jobs: int
    _started: bool = False
    _stack: ExitStack = field(default_factory=ExitStack)
    _mailbox: Any = None
    _collected: Any = None
    """Ray's reference to messages that the mailbox has been asked for."""
    _settings: Any = None
    """Ray's reference to the pickled settings, which it sends to each node once."""
    _home: Home | None = None

    def start(self) -> None:
        """Starts Ray, or connects to it, at the first call.

        Raises:
            HarnessError: if that fails, or the context can't be sent to workers.
        """
        if self._started:
            return
        self._started = True
        context = replace(self.context, store=Store(self.context.store.root.absolute()), progress=Silent())
        level = logging.getLogger("harness").getEffectiveLevel()
        self._home = self._stack.enter_context(_signed(context.store))
        self._stack.enter_context(_connected(self.jobs))
        settings = _pickled(Settings(context, torch_threads(), level), "data")
        self._settings = ray.put(settings)
        self._mailbox = _mailbox()

    def nodes(self) -> list[Mapping[str, float]]:
        """Returns the resources of each node that is alive."""
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def submit(self, step: Step, *, sender: str, cpus: int, gpus: float) -> Any:
        """Gives a step to Ray; returns its reference to the report.

        Args:
            step: The step.
            sender: Names this attempt in its messages.
            cpus: Processors, and threads of PyTorch.
            gpus: GPUs, or a part of one.

        Raises:
            HarnessError: if it can't be sent to workers.
        """
        # Ray would begin a lost task again by itself, without a word: the place counts and says it
        task = ray.remote(compute_there).options(num_cpus=cpus, num_gpus=gpus, max_retries=0, name=step.title)
        sent = _pickled(step, step.title)
        return task.remote(self._home, self._settings, sent, threads=cpus, mailbox=self._mailbox, sender=sender)

    def messages(self) -> list[Letter]:
        """Returns what the workers have said since the last call."""
        self._collected = self._collected or self._mailbox.collect.remote()
        if not ray.wait([self._collected], timeout=MESSAGES_WITHIN)[0]:
            return []
        collected, self._collected = self._collected, None
        with suppress(ray.exceptions.RayError):  # progress is lost, and no step
            return ray.get(collected)
        return []

    def end(self) -> None:
        """Ends Ray's own cluster, or leaves the other one; workers of this run end with it."""
        self._stack.close()


@contextmanager
def _signed(store: Store) -> Iterator[Home]:
    """Holds a lock in the store inside the block, by which workers know the store; gives what they take over."""
    for left in store.lock_file(SIGN).parent.glob(f"{SIGN}*"):
        with suppress(OSError), locked_if_free(left):  # removes the locks of killed runs; another user's may not be opened
            pass
    name = f"{SIGN}{uuid.uuid4().hex}"
    with store.locked(name, "a run on Ray"):
        yield Home(
            folder=str(Path.cwd()),
            modules=tuple(str(Path(place).absolute()) for place in sys.path),
            variables={**{name: os.environ[name] for name in FORWARDED if name in os.environ}, **OFFLINE},
            store=str(store.root),
            sign=str(store.lock_file(name)),
        )


@contextmanager
def _connected(jobs: int) -> Iterator[None]:
    """Connects to Ray inside the block, unless the caller's program is connected already."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get(ADDRESS) or OWN
    with ExitStack() as stack:
        own: dict[str, Any] = {}
        if address == OWN:
            for name, value in OWN_SETTINGS.items():
                os.environ.setdefault(name, value)
            folder = stack.enter_context(own_folder())
            own = {"num_cpus": jobs * max(1, torch_threads() // jobs), "include_dashboard": False, "_temp_dir": folder}
        stack.enter_context(_quiet())
        stack.callback(ray.shutdown)
        with _own_sigterm():
            try:
                ray.init(address=address, logging_level=LOG_LEVEL, **own)
            except Exception as error:  # ConnectionError, RuntimeError of other versions, ValueError of an address
                where = "" if address == OWN else f" at {ADDRESS}={address}"
                raise HarnessError(f"executor: expected Ray to start or answer{where}, got {reason_of(error)}") from error
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Turns what Ray's own processes print on standard output into debug messages inside the block.

    For each lost worker Ray prints a page among the tables, whatever it is told about logs; of that the place says one line.
    What the steps print stays. The function is no part of Ray's interface: where it is not there, all is printed.
    """
    module = importlib.import_module("ray._private.worker")
    printed = getattr(module, "print_worker_logs", None)

    def print_of_steps(data: Mapping[str, Any], *others: Any, **named: Any) -> None:
        if data.get("pid") == "raylet":
            logger.debug("%s", "\n".join(map(str, data.get("lines", ()))))
        elif printed is not None:
            printed(data, *others, **named)

    if printed is None:
        yield
        return
    vars(module)["print_worker_logs"] = print_of_steps
    try:
        yield
    finally:
        vars(module)["print_worker_logs"] = printed


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps this process's handler of SIGTERM, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _mailbox() -> Any:
    """Returns a new mailbox on this process's node, so that no other node's end takes it away."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(Mailbox).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    return actor.remote()


def _pickled(value: object, what: str) -> bytes:
    """Returns a value as bytes, with the classes of the caller's script in it, which workers do not import."""
    try:
        return bytes(ray.cloudpickle.dumps(value))
    except Exception as error:  # whatever an object raises that cannot be pickled
        raise HarnessError(f"{what}: with Ray expected what can be pickled, got {error}") from error
