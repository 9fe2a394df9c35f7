"""Model specifications: an architecture by name or factory, where its weights come from, its preprocessing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from harness.models.classifier import Classifier
from harness.registry import Plugin, Registry


class Architecture(Plugin, ABC):
    """Base of the model plug-ins: a specification that builds an untrained or pretrained `Classifier`."""

    PATH_FIELDS: ClassVar[frozenset[str]] = frozenset({"weights"})
    """Fields that say where weights lie: out of the digest, the file's hash stands for them."""

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


MODELS: Registry[Architecture] = Registry(
    "models",
    {
        "timm": "harness.models.timm:Timm",
        "factory": "harness.models.factory:Factory",
    },
)
