"""Model specifications: an architecture by name or factory, where its weights come from, its preprocessing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from harness.errors import ModelError
from harness.models.classifier import Classifier
from harness.registry import Plugin, Registry
from harness.store import sha256_of_file


class Architecture(Plugin, ABC):
    """Base of the model plug-ins: a specification that builds an untrained or pretrained `Classifier`."""

    PATH_FIELDS: ClassVar[frozenset[str]] = frozenset({"weights"})

    weights: str | None = None
    """A file to start from: .safetensors, .pth or .h5; a head of another class count is dropped and said so."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per-channel mean, subtracted inside the model."""
    std: tuple[float, float, float] = Field(default=(0.229, 0.224, 0.225))
    """Per-channel standard deviation, divided by inside the model."""

    @property
    @abstractmethod
    def arch(self) -> str:
        """The architecture's name as shown in tables: "efficientnet_b0", "mypackage.nets:small"."""

    def identity(self) -> dict[str, Any]:
        """Returns the fields for digests, with the hash of the weights file in place of its path.

        Raises:
            ModelError: if the weights file is missing.
        """
        return {**super().identity(), "weights_sha256": None if self.weights is None else _hash_of_weights(self.weights)}

    def without_weights(self) -> Self:
        """Returns the same architecture, to be filled from a state that is already at hand."""
        fields: dict[str, object] = {"weights": None, "pretrained": False}
        return self.model_copy(update={key: value for key, value in fields.items() if key in type(self).model_fields})

    @abstractmethod
    def build(self, class_names: Sequence[str], *, resolution: int, seed: int) -> Classifier:
        """Builds the network, on the CPU, in eval mode.

        Args:
            class_names: One name a class; the head gets as many outputs.
            resolution: Side length of the images it will see, checked by one forward pass.
            seed: Seeds the initialisation of weights that no file provides.

        Raises:
            ModelError: if the architecture is unknown, the file does not fit or is damaged, or the output has
                another shape than (N, number of classes).
        """


def _hash_of_weights(weights: str) -> str:
    try:
        return sha256_of_file(Path(weights).expanduser())
    except OSError as error:
        raise ModelError(f"weights: expected a readable file at {weights}, found {error.strerror}") from error


MODELS: Registry[Architecture] = Registry(
    "models",
    {
        "timm": "harness.models.timm:Timm",
        "factory": "harness.models.factory:Factory",
    },
)
