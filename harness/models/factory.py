"""A network that a callable of the user's own returns."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, model_validator

from harness.errors import ModelError
from harness.models.base import MODELS, Architecture
from harness.storage.store import sha256_of_file
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import nn


@MODELS.register
class Factory(Architecture):
    """A network that `callable(num_classes=..., **arguments)` returns; it takes normalised images and gives logits."""

    name: Literal["factory"] = "factory"
    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    """The callable, as "package.module:callable"; it must be importable."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Further keyword arguments of the callable."""

    @model_validator(mode="before")
    @classmethod
    def _arch_is_the_factory(cls, value: object) -> object:
        if isinstance(value, Mapping) and "factory" in value:
            return {"arch": value["factory"], **value}
        return value

    def identity(self) -> dict[str, Any]:
        """See `Architecture.identity`; the source of the callable's module is part of it."""
        try:
            spec = importlib.util.find_spec(self.factory.partition(":")[0])
        except (ImportError, ValueError):
            spec = None
        source = None if spec is None or spec.origin is None else Path(spec.origin)
        return {**super().identity(), "source_sha256": sha256_of_file(source) if source and source.is_file() else None}

    def find(self) -> None:
        """See `Architecture.find`."""
        self._callable()

    def backbone(self, num_classes: int) -> nn.Module:
        """See `Architecture.backbone`."""
        network = self._callable()(num_classes=num_classes, **self.arguments)
        if not isinstance(network, torch.nn.Module):
            raise ModelError(f"factory: expected {self.factory} to return a torch.nn.Module, got {type(network).__name__}")
        return network

    def _callable(self) -> Callable[..., object]:
        module, _, attributes = self.factory.partition(":")
        try:
            found: object = importlib.import_module(module)
            for attribute in attributes.split("."):
                found = getattr(found, attribute)
        except (ImportError, AttributeError) as error:
            hint = "is its folder on PYTHONPATH?"
            raise ModelError(f"factory: {self.factory} cannot be imported: {error}; {hint}") from error
        except Exception as error:  # the user's module may fail in any way
            raise ModelError(f"factory: {self.factory} cannot be imported: {type(error).__name__}: {error}") from error
        if not callable(found):
            raise ModelError(f"factory: expected {self.factory} to be callable, got {type(found).__name__}")
        return cast(Callable[..., object], found)
