"""Steps: a kind, a version, an identity, the steps that they depend on, and the digest of all four."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.datasets.splits import subset
from harness.errors import StepFailed, StoreError
from harness.images import ImageData, ImageSplit, Source
from harness.registry import Plugin
from harness.spec import digest_of
from harness.storage.store import Entry, Store
from harness.system.device import DeviceField
from harness.system.progress import Progress, Silent

if TYPE_CHECKING:
    import torch

    from harness.models.classifier import Classifier

DEVICE = DeviceField()


@dataclass(frozen=True)
class Context:
    """The store, data and device of a step; no digest covers them.

    The batch size decides which random start an attack draws for which example, and so moves numbers within their noise.
    """

    store: Store
    data: ImageData
    device: DeviceField = DEVICE
    workers: int = 0
    """Processes that load images."""
    batch_size: int | None = None
    """Images of an evaluation batch, or None to choose by the device."""
    progress: Progress = field(default_factory=Silent)

    @property
    def device_or_name(self) -> torch.device | str:
        """The device, or its name where it was given as such."""
        return DEVICE.given(self)

    def folder(self, step: Step) -> Path:
        """Returns the payload folder of a finished step.

        Raises:
            StoreError: if the step is not in the store.
        """
        entry = self.entry(step)
        if entry is None:
            raise StoreError(f"{step.title}: expected the finished step {step.digest[:12]} in {self.store.root}, found none")
        return entry.path

    def entry(self, step: Step) -> Entry | None:
        """Returns a step's entry in the store, or None."""
        return self.store.get(step.KIND, step.digest)


class Step(ABC):
    """One unit of work whose result is kept in the store under its digest."""

    KIND: ClassVar[str]
    """Folder of the store."""
    VERSION: ClassVar[int]
    """Raised whenever the code of the step changes its numbers."""
    FULL_FLOAT32: ClassVar[bool] = False
    """Whether it measures something, and so runs without TF32 whatever the caller has set."""

    @property
    @abstractmethod
    def title(self) -> str:
        """A few words for progress displays."""

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Step]:
        """The steps this one depends on, by role."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Returns, as plain JSON values, all that changes the result apart from the inputs."""

    @abstractmethod
    def run(self, context: Context, folder: Path) -> None:
        """Computes the result and writes its payload into `folder`."""

    def files_read(self, context: Context) -> tuple[Source, ...]:
        """Returns the files that it may read images from."""
        return () if context.data.source is None else (context.data.source,)

    def expect_same_data(self, context: Context) -> None:
        """Refuses files that are not those that the digest is taken over.

        Raises:
            StepFailed: if one was written, or removed, since the data was loaded.
        """
        changed = [file for source in self.files_read(context) for file in source.changed()]
        if changed:
            found = f"{len(changed)} of its images, such as {changed[0]}, were written"
            raise StepFailed(f"the data changed while the suite ran: {found}; nothing is kept, run it again")

    @cached_property
    def digest(self) -> str:
        """sha256 over kind, version, identity and the digests of the inputs."""
        return digest_of(self.spec())

    def spec(self) -> dict[str, Any]:
        """Returns what the digest is taken over."""
        inputs = {role: step.digest for role, step in self.inputs.items()}
        return {"kind": self.KIND, "version": self.VERSION, "identity": dict(self.identity()), "inputs": inputs}


class ModelStep(Step):
    """A step whose result is a trained network."""

    label: str
    """Name of the model in titles."""

    @abstractmethod
    def classifier(self, context: Context) -> Classifier:
        """Returns the network of the finished step, on the context's device, in eval mode."""


@dataclass(frozen=True)
class DataIdentity:
    """A data set as digests see it: its fields without paths, and the hash of its content."""

    fields: Mapping[str, Any]
    content_hash: str

    @classmethod
    def of(cls, dataset: Plugin, data: ImageData) -> DataIdentity:
        """Returns the identity of a loaded data set."""
        return cls(dataset.identity(), data.content_hash)

    def json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {"fields": dict(self.fields), "content_hash": self.content_hash}


@dataclass(frozen=True)
class Examples:
    """Which examples of the data are judged."""

    split: str
    limit: int | None
    seed: int

    def json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {"split": self.split, "limit": self.limit, "seed": self.seed}

    def of(self, data: ImageData) -> ImageSplit:
        """Returns the examples: the whole split, or a stratified part of it."""
        split = data.splits[self.split]
        return split if self.limit is None or self.limit >= len(split) else subset(split, self.limit, self.seed)


def in_order(wanted: Iterable[Step]) -> tuple[Step, ...]:
    """Returns steps and all that they depend on, each once, after those it depends on."""
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.digest not in found:
            for needed in step.inputs.values():
                visit(needed)
            found[step.digest] = step

    for step in wanted:
        visit(step)
    return tuple(found.values())
