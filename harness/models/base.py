"""Model specifications: an architecture by name or factory, where its weights come from, its preprocessing."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from harness.errors import ModelError, naming
from harness.registry import Plugin, Registry
from harness.storage.store import sha256_of_file
from harness.system.lazy import torch
from harness.system.seeds import global_seed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.models.classifier import Classifier


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of ImageNet's training images, in [0,1]; the custom of the field."""

TELLING = (
    *("harness.models.fitting", "harness.models.origin", "harness.models.finished"),
    *("harness.models.safeguards", "harness.steps.given"),
)
"""The modules that warn of what a file of weights leaves open, and where the gradient of an ONNX file comes from."""

Positive = Annotated[float, Field(gt=0)]


class Architecture(Plugin, ABC):
    """Base of the model plug-ins: a specification that builds an untrained or pretrained `Classifier`.

    A plug-in writes `backbone`. This class loads its weights, puts the normalisation in front and checks the result.
    """

    PATH_FIELDS: ClassVar[frozenset[str]] = frozenset({"weights"})

    arch: str
    """The architecture's name as shown in tables: "efficientnet_b0", "mypackage.nets:small"."""
    weights: str | None = None
    """A file to start from: .safetensors, .pth or .h5. A head of other classes is left out, and a warning says so. A .h5
    file names its architecture and classes: the architecture must be this one, the same classes must have the same order."""
    mean: tuple[float, float, float] | None = None
    """Per-channel mean, subtracted inside the model. Without this field it is the one in the file of weights, else the one
    that timm states for the architecture, else ImageNet's. The same holds for `std`."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Per-channel standard deviation, divided by inside the model."""

    @model_validator(mode="after")
    def _mean_comes_with_std(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std: expected both or neither, got one of them")
        return self

    def identity(self) -> dict[str, Any]:
        """Returns the fields for digests; the hash of the weights file replaces its path.

        Raises:
            ModelError: if the weights file is missing.
        """
        return {**super().identity(), "weights_sha256": None if self.weights is None else _hash_of_weights(self.weights)}

    def without_weights(self) -> Self:
        """Returns the same architecture without initial weights, for a caller that loads a state into it."""
        fields: dict[str, object] = {"weights": None, "pretrained": False}
        return self.model_copy(update={key: value for key, value in fields.items() if key in type(self).model_fields})

    def find(self) -> None:
        """Checks that the network exists, without building it; plug-ins whose user names a network override it.

        Raises:
            ModelError: if there is no network of that name; the message begins with the field.
        """

    def check_weights(self) -> None:
        """Checks that the file of weights, if one is named, can be read.

        Raises:
            ModelError: if it is missing or damaged; the message begins with the field.
        """
        if self.weights is None:
            return
        from harness.models.weights import read_weights

        try:
            with naming("weights: ", ModelError):
                read_weights(Path(self.weights))
        except (OSError, RuntimeError) as error:  # a folder that may not be entered, a "~name" of nobody
            raise ModelError(f"weights: expected a readable file at {self.weights}, found {error}") from error

    def structure(self) -> dict[str, Any]:
        """Returns the fields that decide which states fit the network; those of dropout do not, as it has no weights."""
        dropout = {"drop_rate", "drop_path_rate"}
        return self.model_dump(mode="json", exclude={"weights": True, "pretrained": True, "arguments": dropout})

    @abstractmethod
    def backbone(self, num_classes: int) -> nn.Module:
        """Returns the network: normalised images (N, 3, H, W) to logits (N, num_classes).

        The caller seeds the global generators.

        Raises:
            ModelError: if the architecture is unknown or its pretrained weights cannot be downloaded.
        """

    def build(self, class_names: Sequence[str], *, resolution: int, seed: int) -> Classifier:
        """Returns the network, built on the CPU, in eval mode.

        Args:
            class_names: One name a class; the head gets as many outputs.
            resolution: Side length of its images in pixels; one forward pass checks that the network takes them.
            seed: Seeds the initialisation of weights that no file provides.

        Raises:
            ModelError: if the architecture is unknown, the file does not fit or is damaged, or the output has
                another shape than (N, number of classes), or weights from a file give logits that are not finite.
        """
        from harness.models.classifier import Classifier
        from harness.models.fitting import load_into
        from harness.models.origin import has_other_classes

        with global_seed(seed):
            backbone = self.backbone(len(class_names))
        state = self.state()
        mean, std = self.normalisation(backbone, state)
        classifier = Classifier(backbone, mean=mean, std=std, class_names=class_names).eval()
        if self.weights is not None:
            with naming(f"{self.arch}: the weights in {self.weights} do not fit: ", ModelError):
                arguments = getattr(self, "arguments", {})
                others = has_other_classes(Path(self.weights), arch=self.arch, arguments=arguments, class_names=class_names)
                load_into(backbone, state, allow_new_head=True, other_classes=others)
        self._check_output(classifier, resolution)
        return classifier

    def state(self) -> Mapping[str, Tensor]:
        """Returns the tensors of the file of weights by name; none where no file is named.

        Raises:
            ModelError: if the file is missing or damaged.
        """
        from harness.models.weights import read_weights

        return {} if self.weights is None else read_weights(Path(self.weights))

    def pretrained_classes(self) -> int | None:
        """Returns the number of classes of the weights that the plug-in downloads, where it does and knows it."""
        return None

    def normalisation(self, backbone: nn.Module, state: Mapping[str, Tensor]) -> tuple[Sequence[float], Sequence[float]]:
        """Returns mean and std in pixel units: the fields, else those of the file, else the network's, else ImageNet's.

        Args:
            backbone: The network.
            state: The tensors of the file of weights.
        """
        if self.mean is not None and self.std is not None:
            return self.mean, self.std
        if {"mean", "std"} <= state.keys() and state["mean"].numel() == state["std"].numel() == len(IMAGENET_MEAN):
            return state["mean"].flatten().tolist(), state["std"].flatten().tolist()
        stated = getattr(backbone, "pretrained_cfg", None) or {}
        return stated.get("mean", IMAGENET_MEAN), stated.get("std", IMAGENET_STD)

    def _check_output(self, classifier: Classifier, resolution: int) -> None:
        expected, found = (2, classifier.num_classes), "none"
        try:
            with torch.no_grad():
                logits = classifier(torch.full((2, 3, resolution, resolution), 0.5))
            found = str(tuple(logits.shape)) if isinstance(logits, torch.Tensor) else type(logits).__name__
        except Exception as error:  # a network may fail on a size in any way
            where = f"{self.arch}: a forward pass of two images of {resolution} x {resolution} failed"
            raise ModelError(f"{where}: {type(error).__name__}: {str(error).strip().splitlines()[:1]}") from error
        if found != str(expected):
            raise ModelError(f"{self.arch}: expected logits of shape {expected} for two images, got {found}")
        if self.weights is not None and logits.softmax(dim=1).isnan().any():
            raise ModelError(f"{self.arch}: expected finite logits for two grey images, got others; {self.weights} is damaged")


@contextmanager
def told_before() -> Iterator[None]:
    """Leaves out what a build says of the file of weights: a trial of the same build has said it."""
    loggers = [logging.getLogger(name) for name in TELLING]
    for logger in loggers:
        logger.addFilter(_nothing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


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
