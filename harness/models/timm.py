"""Any architecture of timm, by name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from harness.errors import ModelError, naming
from harness.models.base import MODELS, Architecture
from harness.models.timm_names import is_known
from harness.spec import parse_spec
from harness.system.lazy import LazyModule

if TYPE_CHECKING:
    from torch import nn

    from harness.models.classifier import Classifier

timm: Any = LazyModule("timm")
"""The library, imported when a network is built, or a name is unknown; it has no types."""


OWN_ARGUMENTS = frozenset({"model_name", "pretrained", "num_classes", "in_chans", "checkpoint_path"})
"""Arguments of `timm.create_model` that have a field of their own, or that the harness sets."""


@MODELS.register
class Timm(Architecture):
    """An architecture of timm; `harness list models` does not list the thousands of them, `timm.list_models()` does."""

    name: Literal["timm"] = "timm"
    arch: str
    """timm's name of the architecture, with or without the tag of its weights: "efficientnet_b0", "resnet18.a1_in1k"."""
    pretrained: bool = False
    """Start from the weights that timm downloads for this name; the head is new."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of `timm.create_model`, e.g. drop_rate, drop_path_rate, img_size."""

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise ValueError("pretrained and weights: expected one of them, got both")
        if taken := sorted(OWN_ARGUMENTS & self.arguments.keys()):
            raise ValueError(f"arguments: expected none of {', '.join(sorted(OWN_ARGUMENTS))}, got {', '.join(taken)}")
        return self

    def identity(self) -> dict[str, Any]:
        """See `Architecture.identity`; of pretrained weights it holds the tag that timm resolves the name to."""
        found = timm.get_pretrained_cfg(self.arch) if self.pretrained and timm.is_model(self.arch) else None
        return super().identity() if found is None else {**super().identity(), "pretrained_tag": found.tag}

    def find(self) -> None:
        """See `Architecture.find`."""
        if not (is_known(self.arch) or timm.is_model(self.arch)):
            nearest = difflib.get_close_matches(self.arch, timm.list_models(), n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
            raise ModelError(f"arch: timm has no model {self.arch!r}{hint}")

    def backbone(self, num_classes: int) -> nn.Module:
        """See `Architecture.backbone`."""
        from harness.models.downloads import offline_if_unreachable

        self.find()
        source = timm.get_pretrained_cfg(self.arch) if self.pretrained else None
        try:
            with offline_if_unreachable(source):
                return timm.create_model(self.arch, pretrained=self.pretrained, num_classes=num_classes, **self.arguments)
        except (OSError, ModelError) as error:
            first = (str(error).strip().splitlines() or ["no message"])[0]
            hint = "name a file of weights instead of pretrained: true"
            raise ModelError(f"{self.arch}: the pretrained weights cannot be downloaded ({first}); {hint}") from error
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"{self.arch}: timm cannot build it: {error}") from error


def load_h5(path: Path) -> Classifier:
    """Returns a classifier of one of timm's architectures from an HDF5 file, in eval mode, with bit-equal weights.

    Only timm's own architectures are built by a name in a file: a factory that a file names could be any code.

    Raises:
        ModelError: if the file is missing, damaged or of another layout, or its architecture is not timm's.
    """
    from harness.models.fitting import load_into
    from harness.models.h5 import read_h5

    saved = read_h5(path)
    if not timm.is_model(saved.arch) or saved.builder not in (None, "timm"):
        found = repr(saved.arch) if saved.builder is None else f"{saved.arch!r} built by {saved.builder}"
        raise ModelError(f"{path}: expected one of timm's architectures, got {found}; load its weights into yours")
    fields = {"arch": saved.arch, "mean": saved.mean, "std": saved.std, "arguments": saved.arguments}
    architecture = parse_spec(Timm, fields, where=str(path), error=ModelError)
    classifier = architecture.build(saved.class_names, resolution=saved.resolution, seed=0)
    with naming(f"{path}: the weights do not fit {saved.arch}: ", ModelError):
        load_into(classifier, saved.weights, allow_new_head=False)
    return classifier
