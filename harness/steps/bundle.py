"""The step that stores the images of a model's conditions, with labels and PyTorch's logits, for other runtimes to score."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.bundle import BundleCondition, BundleWriter, Kind
from harness.corruptions.base import Corruption
from harness.corruptions.encoding import Jpeg, Rounding
from harness.corruptions.stream import corrupt_batch
from harness.datasets.splits import subset, take
from harness.evaluation.batches import batches
from harness.export.metadata import model_sha256
from harness.images import ImageSplit, Source
from harness.models.classifier import Classifier
from harness.steps.base import Context, Examples, ModelStep, Step
from harness.steps.conditions import Corrupted, FromFolder, Trigger
from harness.steps.evaluate import Sweep
from harness.steps.judgement import Judgement
from harness.system.precision import full_float32

BUNDLE = "bundle.h5"
BATCH = 32
"""Images of a forward pass; no more are in memory at a time."""
ROUNDED: Kind = "rounded8bit"
ENCODINGS: Mapping[Kind, tuple[Corruption, int]] = {ROUNDED: (Rounding(), 1), "jpeg": (Jpeg(), 2)}
"""Kind -> plug-in and severity of what storing does to an image: rounding to 8 bits, and JPEG of quality 90."""
NOTHING = 1e-6
"""A pixel that rounding to 8 bits changes by less already had 8 bits."""

Show = Callable[[BundleCondition, NDArray[np.int64], Tensor], None]
"""Called with a condition, rows (n,) of the source's examples, and their images (n, 3, R, R) under that condition."""


@dataclass(frozen=True)
class BundleSource(ABC):
    """Conditions of a bundle whose images come from one step of the grid."""

    step: Judgement
    """Its digest says which images they are."""
    conditions: tuple[BundleCondition, ...]

    @abstractmethod
    def stream(self, clean: ImageSplit, context: Context, show: Show) -> None:
        """Shows every image once, a batch at a time."""

    def examples(self, clean: ImageSplit) -> ImageSplit:
        """Returns the examples that rows count: the clean ones, or those of the source's own."""
        return clean

    def kept(self, clean: ImageSplit, context: Context) -> tuple[BundleCondition, ...]:
        """Returns the conditions whose images differ from those of the others."""
        return self.conditions

    def json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {"step": self.step.digest, "conditions": [condition.model_dump(mode="json") for condition in self.conditions]}


@dataclass(frozen=True)
class Attacked(BundleSource):
    """The images of a sweep at some of its budgets, as they are and stored in 8 bits."""

    step: Sweep

    def stream(self, clean: ImageSplit, context: Context, show: Show) -> None:
        """See `BundleSource.stream`."""
        wanted = {(condition.eps, condition.kind): condition for condition in self.conditions}

        def keep(eps: Fraction, rows: NDArray[np.int64], x: Tensor) -> None:
            if (eps, "attack") not in wanted:
                return
            show(wanted[eps, "attack"], rows, x)
            keys = [clean.hashes[row] for row in rows]
            for kind, (encoding, severity) in ENCODINGS.items():
                show(wanted[eps, kind], rows, corrupt_batch(encoding, x, keys, severity=severity, seed=self.step.settings.seed))

        self.step.attacked(context, keep)


@dataclass(frozen=True)
class OfSplit(BundleSource):
    """The images of one split: as they are, and rounded to 8 bits if that changes any of them.

    An image that was decoded from a file and not resized has 8 bits already, and so has one that a corruption has stored.
    """

    @abstractmethod
    def images(self, clean: ImageSplit, context: Context) -> tuple[ImageSplit, NDArray[np.int64]]:
        """Returns the images, and the row of the source's examples that each is of."""

    def kept(self, clean: ImageSplit, context: Context) -> tuple[BundleCondition, ...]:
        """See `BundleSource.kept`."""
        found = (batch.x for batch in batches(self.images(clean, context)[0], BATCH, "cpu"))
        rounding_tells = any(bool((_rounded(x) - x).abs().max() > NOTHING) for x in found)
        return self.conditions if rounding_tells else self.conditions[:1]

    def stream(self, clean: ImageSplit, context: Context, show: Show) -> None:
        """See `BundleSource.stream`."""
        images, rows = self.images(clean, context)
        own, rounded = self.conditions
        for batch in batches(images, BATCH, context.device):
            of_batch = rows[batch.indices.numpy()]
            show(own, of_batch, batch.x)
            show(rounded, of_batch, _rounded(batch.x))


@dataclass(frozen=True)
class Evaluated(OfSplit):
    """The clean examples."""

    def images(self, clean: ImageSplit, context: Context) -> tuple[ImageSplit, NDArray[np.int64]]:
        """See `OfSplit.images`."""
        return clean, np.arange(len(clean))


@dataclass(frozen=True)
class Damaged(OfSplit):
    """The images of a corruption at one severity."""

    step: Corrupted
    severity: int

    def images(self, clean: ImageSplit, context: Context) -> tuple[ImageSplit, NDArray[np.int64]]:
        """See `OfSplit.images`."""
        return self.step.damaged(clean, self.severity), np.arange(len(clean))


@dataclass(frozen=True)
class Triggered(OfSplit):
    """The examples that can carry a poison's trigger, with it."""

    step: Trigger

    def images(self, clean: ImageSplit, context: Context) -> tuple[ImageSplit, NDArray[np.int64]]:
        """See `OfSplit.images`."""
        stamped = self.step.stamped(context)
        place_of = {name: place for place, name in enumerate(stamped.ids)}
        rows = np.array([row for row, name in enumerate(clean.ids) if name in place_of], dtype=np.int64)
        return take(stamped, [place_of[clean.ids[row]] for row in rows]), rows


@dataclass(frozen=True)
class Photographed(OfSplit):
    """Images of a user's folder, a stratified part of them where there are more than `limit`."""

    step: FromFolder
    limit: int
    seed: int

    def examples(self, clean: ImageSplit) -> ImageSplit:
        """See `BundleSource.examples`."""
        return subset(self.step.images, self.limit, self.seed)

    def images(self, clean: ImageSplit, context: Context) -> tuple[ImageSplit, NDArray[np.int64]]:
        """See `OfSplit.images`."""
        own = self.examples(clean)
        return own, np.arange(len(own))

    def json(self) -> dict[str, Any]:
        """See `BundleSource.json`."""
        return {**super().json(), "limit": self.limit, "seed": self.seed}


@dataclass(frozen=True)
class Bundling(Step):
    """Writes `bundle.h5`: some examples under the conditions of the sources, the first of which are the clean ones."""

    KIND: ClassVar[str] = "bundle"
    VERSION: ClassVar[int] = 1
    FULL_FLOAT32: ClassVar[bool] = True

    model: ModelStep
    examples: Examples
    sources: tuple[BundleSource, ...]

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"bundle {self.model.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training."""
        return {"model": self.model}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`; names are in the file, so they count too."""
        encodings = {kind: [encoding.identity(), severity] for kind, (encoding, severity) in ENCODINGS.items()}
        return {
            "encodings": encodings,
            "model": self.model.label,
            "examples": self.examples.json(),
            "sources": [source.json() for source in self.sources],
        }

    def file(self, context: Context) -> Path:
        """Returns the path of the finished bundle in the store."""
        return context.folder(self) / BUNDLE

    def files_read(self, context: Context) -> tuple[Source, ...]:
        """See `Step.files_read`; those of its sources."""
        found = {id(files): files for source in self.sources for files in source.step.files_read(context)}
        return tuple(found.values())

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        network, examples = self.model.classifier(context), self.examples.of(context.data)
        with BundleWriter(
            folder / BUNDLE,
            class_names=context.data.class_names,
            model=self.model.label,
            model_sha256=model_sha256(network.state_dict()),
            dataset=context.data.name,
        ) as bundle:
            for source in self.sources:
                _write(source, bundle, network, examples=examples, context=context)


def _write(source: BundleSource, bundle: BundleWriter, network: Classifier, *, examples: ImageSplit, context: Context) -> None:
    """Writes the conditions of one source side by side, in the order in which their images come."""
    labels = torch.from_numpy(np.asarray(source.examples(examples).labels, dtype=np.int64))
    with ExitStack() as stack:
        kept = source.kept(examples, context)
        writers = {condition: stack.enter_context(bundle.condition(condition)) for condition in kept}

        def show(condition: BundleCondition, rows: NDArray[np.int64], x: Tensor) -> None:
            if condition in writers:
                of_clean = None if condition.clean is None else rows
                writers[condition].append(*_arrays(network, x, labels[rows]), rows=of_clean)

        source.stream(examples, context, show)


def _rounded(x: Tensor) -> Tensor:
    """Returns images (N, 3, R, R) as 8-bit files keep them; nothing about it is random."""
    rounding, severity = ENCODINGS[ROUNDED]
    return corrupt_batch(rounding, x, [""] * len(x), severity=severity, seed=0)


def _arrays(network: Classifier, x: Tensor, y: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Returns images, labels and the network's logits as a bundle keeps them; logits in full float32 on a GPU too."""
    with torch.inference_mode(), full_float32():
        logits = network(x)
    return x.detach().cpu().numpy(), y.cpu().numpy(), logits.cpu().numpy()
