"""The step that runs a detector of poisoned examples and scores its detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from harness.errors import StepFailed
from harness.images import ImageSplit
from harness.poisoning.detectors.base import Detection, Detector
from harness.poisoning.detectors.score import DetectorScore, score_detector
from harness.spec import parse_spec
from harness.steps.base import Context, ModelStep, Step
from harness.steps.poison import Poisoning
from harness.storage.store import read_json, write_json
from harness.system.out_of_memory import with_smaller_batches
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

SCORES = "scores.safetensors"
SCORE = "score.json"


@dataclass(frozen=True)
class Detect(Step):
    """Judges the training split of a poisoned model or, at run time, clean and triggered test images.

    Without a poison it is the clean control: the same detector on a model and on data that nobody poisoned.
    """

    KIND: ClassVar[str] = "detect"
    VERSION: ClassVar[int] = 1

    model: ModelStep
    poisoning: Poisoning | None
    label: str
    detector: Detector
    seed: int

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"detect with {self.label} on {self.model.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training, and its poison."""
        return {"model": self.model} if self.poisoning is None else {"model": self.model, "poison": self.poisoning}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {"detector": self.detector.identity(), "seed": self.seed}

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        network = self.model.classifier(context)
        judged = self._judged(context)
        found = [self._detect(network, split, context) for split, _ in judged]
        detection = Detection(
            scores=np.concatenate([part.scores for part in found]),
            suspicious=np.concatenate([part.suspicious for part in found]),
            threshold=found[0].threshold,
        )
        score = score_detector(detection, np.concatenate([is_poisoned for _, is_poisoned in judged]))
        save_file({"scores": detection.scores, "suspicious": detection.suspicious.astype(np.uint8)}, folder / SCORES)
        write_json(folder / SCORE, score.model_dump(mode="json"))

    def score(self, context: Context) -> DetectorScore:
        """Returns how good the detection of the finished step is."""
        path = context.folder(self) / SCORE
        return parse_spec(DetectorScore, read_json(path), where=str(path))

    def suspicious(self, context: Context) -> NDArray[np.bool_]:
        """Returns which of the judged examples the finished step suspects (N,)."""
        return load_file(context.folder(self) / SCORES)["suspicious"].astype(bool)

    def _detect(self, network: Classifier, split: ImageSplit, context: Context) -> Detection:
        from harness.evaluation.batches import batch_size_for

        def detect(size: int) -> Detection:
            return self.detector.detect(
                network,
                split,
                reference=context.data.splits["validation"],
                device=context.device,
                batch_size=size,
                seed=seed_of(self.seed, "detect"),
            )

        size = batch_size_for(network, split, context.device, context.batch_size)
        return with_smaller_batches(detect, size, what=self.title, most=len(split))

    def _judged(self, context: Context) -> list[tuple[ImageSplit, NDArray[np.bool_]]]:
        """Returns the splits to judge, each with the truth about its examples."""
        if not self.detector.RUN_TIME:
            return [self._training_split(context)]
        clean = context.data.splits["test"]
        arms: list[tuple[ImageSplit, NDArray[np.bool_]]] = [(clean, np.zeros(len(clean), dtype=bool))]
        if self.poisoning is not None:
            triggered = self.poisoning.poison.triggered(context.data)
            if triggered is None:
                raise StepFailed(f"{self.title}: expected a poison with a trigger, got {self.poisoning.poison.name}")
            arms.append((triggered, np.ones(len(triggered), dtype=bool)))
        return arms

    def _training_split(self, context: Context) -> tuple[ImageSplit, NDArray[np.bool_]]:
        if self.poisoning is None:
            clean = context.data.splits["train"]
            return clean, np.zeros(len(clean), dtype=bool)
        return self.poisoning.poisoned(context).splits["train"], self.poisoning.manifest(context).is_poisoned
