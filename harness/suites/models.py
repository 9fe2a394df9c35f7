"""A model of a suite: an architecture with the recipe that trains it, or a finished one that is judged as it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, SerializeAsAny, model_validator

from harness.errors import ModelError, naming
from harness.models.adapter import Adapter, InputForm, Output, checked_classes, read_classes_file
from harness.models.base import MODELS, Architecture
from harness.models.scripted import InMemory
from harness.spec import Spec
from harness.suites.labels import Label
from harness.system.messages import shown
from harness.training.recipes.base import RECIPES, Recipe

GIVEN = "given"
"""What tables have in place of a recipe's name, for a finished model."""
OF_FINISHED = ("weights", "onnx", "twin", "classes", "output", "input")
"""Fields of an entry that say nothing of a model with a recipe."""
ONNX = ".onnx"
"""Ending of the files that ONNX Runtime runs."""


def architecture_fields(text: str) -> dict[str, str]:
    """Reads "efficientnet_b0" as a timm name, "package.module:callable" as a factory."""
    return {"name": "factory", "factory": text} if ":" in text else {"name": "timm", "arch": text}


def is_module(value: object) -> bool:
    """Returns whether a value is a network in memory; PyTorch need not be imported for that."""
    return "torch" in sys.modules and isinstance(value, sys.modules["torch"].nn.Module)


def parse_architecture(value: object) -> Architecture:
    """Reads a text as `architecture_fields` does, a mapping as a plug-in, and takes a network that is in memory."""
    if is_module(value):
        return InMemory.of(value)  # type: ignore[arg-type]
    return MODELS.parse(architecture_fields(value) if isinstance(value, str) else value)


def parse_recipe(value: object) -> Recipe | None:
    """Reads a recipe; none is that of a finished model."""
    return None if value is None else RECIPES.parse(value)


ArchitectureField = Annotated[SerializeAsAny[Architecture], BeforeValidator(parse_architecture)]


class ModelEntry(Spec):
    """One model of the grid: trained by its recipe or, without one, finished."""

    architecture: ArchitectureField | None = None
    """The network: a timm name, "package.module:callable" or a mapping; the suite's where it is left out."""
    recipe: Annotated[SerializeAsAny[Recipe] | None, BeforeValidator(parse_recipe)] = None
    """How it is trained; without a recipe the model is judged as it is."""
    warm_start: Label | None = None
    """Label of the model whose trained weights it starts from."""
    poisons: tuple[Label, ...] | None = None
    """Labels of the poisons that it is also trained on; all of the suite's where they are left out."""
    weights: str | None = None
    """File of a finished model: .safetensors, .pth or .h5, loaded into the architecture, or TorchScript, which needs none."""
    onnx: str | None = None
    """ONNX file of a finished model: ONNX Runtime computes it, and decides what is adversarial."""
    twin: str | None = None
    """What the ONNX file was made from, for its gradient: the label of a finished model of the suite, or a file as of
    `weights`, which is loaded into the architecture. Without it the gradient is that of the graph, converted to PyTorch."""
    classes: str | tuple[str, ...] | None = None
    """The classes of a finished model in the order of its logits: names, or a text file with a name a line. Without them they are
    those that a .h5 file names, else the data's."""
    output: Output = None
    """Where a finished model's logits are, see `Adapter.output`."""
    input: InputForm = InputForm()
    """The images that a finished model takes."""

    @property
    def is_finished(self) -> bool:
        """Whether it is judged as it is."""
        return self.recipe is None

    def adapter(self) -> Adapter:
        """Returns what stands around a finished model.

        Raises:
            ModelError: if the file of classes cannot be read; begins with the field.
        """
        if isinstance(self.classes, str):
            with naming("classes: ", ModelError):
                names: tuple[str, ...] | None = read_classes_file(self.classes)
        else:
            names = None if self.classes is None else checked_classes(self.classes, where="classes")
        return Adapter(output=self.output, input=self.input, classes=names)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        """Reads a network in memory, and `factory:` in place of an architecture."""
        if is_module(value):
            return {"architecture": value}
        if not isinstance(value, Mapping):
            return value
        if str(value.get("weights", "")).lower().endswith(ONNX) and value.get("onnx") is None:
            value = {**{key: found for key, found in value.items() if key != "weights"}, "onnx": value["weights"]}
        if "factory" not in value:
            return value
        if value.get("architecture") is not None:
            raise ValueError("factory: expected no architecture beside it, got one")
        fields: dict[Any, Any] = {key: found for key, found in value.items() if key != "factory"}
        return {**fields, "architecture": {"name": "factory", "factory": value["factory"]}}

    @model_validator(mode="after")
    def _is_one_file(self) -> Self:
        if self.onnx is None:
            if self.twin is not None:
                raise ValueError("twin: expected an ONNX file in onnx beside it, as any other model has its own gradient")
            return self
        if self.weights is not None:
            raise ValueError("onnx: expected one file, got another one in weights")
        if not self.onnx.lower().endswith(ONNX):
            raise ValueError(f"onnx: expected a file NAME{ONNX}, got {shown(self.onnx)}")
        if self.architecture is not None and self.twin is None:
            raise ValueError("architecture: expected none beside onnx, as the graph is in the file; beside twin it is the twin's")
        return self

    @model_validator(mode="after")
    def _is_trained_or_finished(self) -> Self:
        if self.recipe is None:
            if self.warm_start is not None:
                raise ValueError("warm_start: expected a recipe beside it, as a model without one is finished and is not trained")
            if self.poisons:
                raise ValueError("poisons: expected a recipe beside them, as a model without one is finished and is not trained")
        elif given := [name for name in OF_FINISHED if getattr(self, name) != type(self).model_fields[name].default]:
            expected = "expected no recipe beside it, as it is of a finished model; `architecture.weights` starts a training"
            raise ValueError(f"{given[0]}: {expected}")
        elif isinstance(self.architecture, InMemory):
            raise ValueError("architecture: expected a timm name or a factory beside a recipe, got a network in memory")
        if self.weights is not None and self.architecture is not None and self.architecture.weights is not None:
            raise ValueError("weights: expected one file, got another one in architecture.weights")
        return self
