"""The step of a finished model: nothing is trained, its weights are looked at and loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import StepFailed
from harness.models.adapter import Adapter
from harness.models.base import Architecture
from harness.models.fingerprint import state_sha256
from harness.onnxfile.architecture import OnnxFile
from harness.steps.base import Context, DataIdentity, Step
from harness.steps.poison import Poisoning, TrainedModel
from harness.storage.store import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from harness.models.classifier import Classifier
    from harness.onnxfile.gradient import Gradient
    from harness.onnxfile.twin import Twin

logger = logging.getLogger(__name__)

FACTS = "model.json"
"""What was judged: the hashes of the file and of the weights, and how many there are."""


@dataclass(frozen=True)
class Given(TrainedModel):
    """A finished model, judged as it is: its digest is of its content, wherever its file lies."""

    KIND: ClassVar[str] = "given"
    VERSION: ClassVar[int] = 1

    label: str
    architecture: Architecture
    """The network, with its weights."""
    adapter: Adapter
    data: DataIdentity
    resolution: int
    state_sha256: str
    """sha256 of the weights when the plan was made."""
    poison: Poisoning | None = None
    gradient: Gradient | None = None
    """Where the gradient of an ONNX file comes from; None of a network of PyTorch, which has its own."""

    @classmethod
    def planned(
        cls,
        label: str,
        architecture: Architecture,
        adapter: Adapter,
        data: DataIdentity,
        *,
        resolution: int,
        class_names: Sequence[str],
        twin: Twin | None = None,
        images: Tensor | None = None,
    ) -> Given:
        """Returns the step of a finished model, which is built once to see that it fits.

        Args:
            label: The model's label.
            architecture: The network, with its weights.
            adapter: What stands around it.
            data: The data set.
            resolution: Side length of its images in pixels.
            class_names: The classes of the data.
            twin: The network that an ONNX file was made from, where it is named.
            images: Some images (N, 3, R, R) of the data, on which an ONNX file is compared with what is differentiated; None
                where they are not loaded.

        Raises:
            ModelError: as `finished_classifier`, and if the twin is another network.
        """
        from harness.models.finished import finished_classifier

        classifier = finished_classifier(architecture, adapter, class_names, resolution=resolution)
        gradient = None
        if isinstance(architecture, OnnxFile):
            from harness.onnxfile.gradient import gradient_of

            precision = architecture.precision()
            gradient = gradient_of(classifier, twin, class_names, images, precision=precision, resolution=resolution)
            logger.log(logging.WARNING if gradient.source == "none" else logging.INFO, "%s: %s", label, gradient.title)
            classifier = gradient.around(classifier, class_names, resolution=resolution)
        return cls(label, architecture, adapter, data, resolution, state_sha256(classifier), gradient=gradient)

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"look at {self.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """None: it is finished."""
        return {}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`; what no file holds, such as the weights of a factory, counts by its state."""
        own = {} if self.architecture.weights is not None else {"state_sha256": self.state_sha256}
        return {
            "architecture": self.architecture.identity(),
            "adapter": self.adapter.identity(),
            "data": self.data.json(),
            **own,
            **({} if self.gradient is None else {"gradient": self.gradient.identity()}),
        }

    @property
    def judged_file(self) -> dict[str, str]:
        """The name and sha256 of its file; of what no file holds, those of the network and of its weights.

        Of an ONNX file also where its gradient comes from.
        """
        weights = self.architecture.weights
        if weights is None:
            return {"file": self.architecture.arch, "sha256": self.state_sha256}
        known = {"file": Path(weights).name, "sha256": str(self.spec()["identity"]["architecture"]["weights_sha256"])}
        return known if self.gradient is None else {**known, "gradient": self.gradient.title}

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        classifier = self.classifier(context)
        write_json(
            folder / FACTS,
            {
                "weights_sha256": self.architecture.identity()["weights_sha256"],
                "state_sha256": self.state_sha256,
                "parameters": sum(weight.numel() for weight in classifier.parameters()),
            },
        )

    def classifier(self, context: Context) -> Classifier:
        """See `ModelStep.classifier`.

        Raises:
            StepFailed: if its weights are no longer those that the digest is taken over.
        """
        found = self.built(context.data.class_names)
        if state_sha256(found) != self.state_sha256:
            raise StepFailed(f"{self.label}: its weights changed while the suite ran; nothing of them is kept, run it again")
        return found.to(context.device).eval()

    def built(self, class_names: Sequence[str]) -> Classifier:
        """Returns the network, built on the CPU, with a logit for each class of the data."""
        from harness.models.finished import finished_classifier

        found = finished_classifier(self.architecture, self.adapter, class_names, resolution=self.resolution)
        return found if self.gradient is None else self.gradient.around(found, class_names, resolution=self.resolution)
