"""The metadata of an exported file: class names, preprocessing, and the hash of the PyTorch weights."""

import hashlib
import json
from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from harness.errors import ModelError
from harness.spec import Spec, canonical_json, parse_spec

SCHEMA_VERSION = 1
"""Version of the keys below; a reader refuses a newer one."""

Resize = Literal["squash", "crop"]
"""How a deployed image becomes square: scaled as a whole, or its largest centred square."""

TEXTS = frozenset({"kind", "precision", "resize", "model_sha256"})
"""The fields that a file stores as text; it stores the others as JSON."""


class Preprocessed(Protocol):
    """The attributes of a `harness.models.classifier.Classifier` that the metadata are made from."""

    class_names: tuple[str, ...]
    mean: Tensor
    std: Tensor

    def state_dict(self) -> dict[str, Tensor]:
        """Returns weights and buffers by name."""
        ...


class Metadata(Spec):
    """The metadata of an exported ONNX file.

    In the file each field is one entry of `metadata_props`: those of `TEXTS` as text, the others as JSON.
    """

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    """Version of these keys."""
    kind: Literal["logits", "deploy"]
    """`logits`: float NCHW in [0,1] in, logits out. `deploy`: uint8 NHWC of any size in, probabilities out."""
    precision: Literal["float32", "float16", "int8"] = "float32"
    """Precision of the weights."""
    class_names: tuple[str, ...] = Field(min_length=1)
    """The K class names, in the order of the outputs."""
    resolution: int = Field(ge=1)
    """Side length in pixels of the network's input."""
    mean: tuple[float, ...]
    """Per-channel mean, subtracted inside the graph."""
    std: tuple[float, ...]
    """Per-channel standard deviation, divided by inside the graph."""
    resize: Resize | None = None
    """How the graph makes an image square; None if it does not resize."""
    model_sha256: str
    """Hash of the PyTorch weights, see `model_sha256`; all files made from one model have the same."""

    def to_props(self) -> dict[str, str]:
        """Returns the entries of `metadata_props`."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return {name: value if name in TEXTS else canonical_json(value) for name, value in fields.items()}

    @classmethod
    def from_props(cls, props: Mapping[str, str], where: str) -> "Metadata | None":
        """Returns the metadata in the entries of `metadata_props`, or None if the harness did not write the file.

        Args:
            props: The entries, with those of other programs.
            where: The file, for messages.

        Raises:
            ModelError: if entries are missing, malformed or of a newer version.
        """
        if not {"schema_version", "model_sha256"} <= props.keys():
            return None
        entries = {name: props[name] for name in cls.model_fields if name in props}
        try:
            fields = {name: text if name in TEXTS else json.loads(text) for name, text in entries.items()}
        except (ValueError, RecursionError) as error:  # no JSON, a number of too many digits, or thousands of brackets
            raise ModelError(f"{where}: expected JSON in the metadata, got: {error}") from error
        return parse_spec(cls, fields, where=f"{where}: metadata", error=ModelError)


def metadata_of(
    classifier: Preprocessed, *, kind: Literal["logits", "deploy"], resolution: int, resize: Resize | None = None
) -> Metadata:
    """Returns the metadata for the export of a classifier."""
    return Metadata(
        kind=kind,
        class_names=classifier.class_names,
        resolution=resolution,
        mean=tuple(classifier.mean.flatten().tolist()),
        std=tuple(classifier.std.flatten().tolist()),
        resize=resize,
        model_sha256=model_sha256(classifier.state_dict()),
    )


def model_sha256(state: Mapping[str, Tensor]) -> str:
    """Returns the sha256 of a state dict's canonical safetensors bytes: sorted names, contiguous, on the CPU.

    Device and memory format do not change it; every bit of weights, buffers and names does.
    """
    tensors = {name: state[name].detach().cpu().clone(memory_format=torch.contiguous_format) for name in sorted(state)}
    return hashlib.sha256(save(tensors)).hexdigest()
