"""The network of PyTorch that an ONNX file was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ModelError, naming
from harness.models.adapter import Adapter
from harness.models.base import Architecture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.models.classifier import Classifier


@dataclass(frozen=True)
class Twin:
    """The network of PyTorch that an ONNX file was made from."""

    name: str
    """Its file, or its label in the suite."""
    architecture: Architecture
    adapter: Adapter

    def identity(self) -> dict[str, Any]:
        """Returns what changes its gradient, in plain JSON values."""
        return {"architecture": self.architecture.identity(), "adapter": self.adapter.identity()}

    def built(self, class_names: Sequence[str], *, resolution: int) -> Classifier:
        """Returns the network, with a logit for each class of the data.

        Raises:
            ModelError: if its file does not fit; begins with `twin`.
        """
        from harness.models.finished import finished_classifier

        with naming("twin: ", ModelError):
            return finished_classifier(self.architecture, self.adapter, class_names, resolution=resolution)
