"""The step that keeps the attacked images of published cells."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.steps.base import Context, Step
from harness.steps.evaluate import Sweep
from harness.steps.pictures import pictured, write_picture
from harness.steps.poison import TrainedModel
from harness.system.lazy import torch
from harness.system.modes import evaluating

if TYPE_CHECKING:
    from torch import Tensor

    from harness.bundle.attacked import AttackedHead, AttackedWriter
    from harness.images import ImageSplit
    from harness.records import Outcome

BATCH = 32
"""Images of a forward pass."""
CHANNELS = 3
PIXEL = 4
"""Bytes of a value in float32."""
COLUMNS = 64 + 2 * 8 + 128
"""Bytes of an example's hash, label and prediction, and of what HDF5 and its filters need for a chunk."""
OVERHEAD = 16_384
"""Bytes of an HDF5 file's own structures."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptImages(Step):
    """Attacks a model again as a sweep did, and keeps the images of some of its budgets.

    An outcome has no images, and may have been computed long ago: so the attack is run again, all budgets of it, with the same
    seeds. The file of a budget has each example's image as `ConditionResult` describes it, and what the model predicts on it;
    beside it lies a picture of some of them.
    """

    KIND: ClassVar[str] = "attacked"
    VERSION: ClassVar[int] = 1
    FULL_FLOAT32: ClassVar[bool] = True

    sweep: Sweep
    """The attack."""
    budgets: tuple[Fraction, ...]
    """Those of its budgets whose images are kept."""
    model_name: str
    """The model's name on the command line."""
    digests: tuple[str, ...]
    """Digest of the cell of each budget."""

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"keep images of {self.sweep.label} on {self.sweep.model.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The attack's outcome, which the images are compared with, and the model."""
        return {"sweep": self.sweep, "model": self.sweep.model}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`; names are in the files, so they count too."""
        budgets = dict(zip(map(str, self.budgets), self.digests, strict=True))
        return {"budgets": budgets, "model": self.model_name, "attack": self.sweep.label}

    def file(self, eps: Fraction) -> str:
        """Returns the name of a budget's file in the step's folder."""
        return f"{self.budgets.index(eps)}.h5"

    def most_bytes(self, examples: ImageSplit) -> int:
        """Returns the largest size of a budget's file: as if no image could be compressed."""
        side = self.sweep.model.resolution if isinstance(self.sweep.model, TrainedModel) else 0
        name = max(len(name.encode()) for name in examples.ids)
        return OVERHEAD + len(examples) * (PIXEL * CHANNELS * side**2 + name + COLUMNS)

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        import h5py

        from harness.bundle.attacked import AttackedWriter

        examples = self.sweep.judged(context)
        shape = tuple(examples[0][0].shape)
        with ExitStack() as stack:
            writers: dict[Fraction, AttackedWriter] = {}
            for eps in self.budgets:
                file = stack.enter_context(h5py.File(folder / self.file(eps), "w"))
                writers[eps] = AttackedWriter(file, self._head(eps), len(examples), shape)

            def keep(eps: Fraction, rows: NDArray[np.int64], x: Tensor) -> None:
                if eps in writers:
                    writers[eps].write(rows, x.detach().cpu().numpy().astype(np.float32))

            self.sweep.attacked(context, keep=keep)
            columns = {"content_hash": list(examples.hashes), "example_id": list(examples.ids), "label": examples.labels}
            for eps, writer in writers.items():
                predicted = self._predicted(eps, writer, context)
                writer.finish(**columns, prediction=predicted)
                self._draw(folder / self.file(eps), examples, writer, predicted, outcome=self.sweep.outcome(context))

    def _draw(
        self, file: Path, examples: ImageSplit, writer: AttackedWriter, predicted: NDArray[np.int64], *, outcome: Outcome
    ) -> None:
        """Writes a picture of some images beside their file, unless no example could be attacked."""
        if rows := pictured(outcome, predicted):
            x_adv = np.concatenate([writer.read(slice(row, row + 1)) for row in rows])
            write_picture(file.with_suffix(".png"), examples, x_adv, rows, outcome=outcome, predicted=predicted)

    def _head(self, eps: Fraction) -> AttackedHead:
        from harness.bundle.attacked import AttackedHead

        norm = self.sweep.settings.threat_models[0].norm
        digest = self.digests[self.budgets.index(eps)]
        return AttackedHead(model=self.model_name, norm=norm, eps=eps, attack=self.sweep.label, digest=digest)

    def _predicted(self, eps: Fraction, writer: AttackedWriter, context: Context) -> NDArray[np.int64]:
        """Returns the model's classes (N,) of the images as they lie in the file, and says where the outcome has others."""
        outcome, network = self.sweep.outcome(context), self.sweep.model.classifier(context)
        condition = next(it for it in outcome.conditions if it.eps == eps)
        predicted = np.zeros(len(outcome.labels), np.int64)
        with evaluating(network), torch.no_grad():
            for start in range(0, len(predicted), BATCH):
                rows = slice(start, start + BATCH)
                x = torch.from_numpy(writer.read(rows)).to(context.device)
                predicted[rows] = network(x).argmax(dim=1).cpu().numpy()
        if changed := int((predicted != condition.logits.argmax(axis=1)).sum()):
            said = "attacked again, and found other images than the stored outcome was of"
            logger.warning("%s, eps %s: %s: %d of %d predictions differ", self.title, eps, said, changed, len(predicted))
        return predicted
