"""The state of a training run after an epoch, in one safetensors file that a rename replaces."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.errors import HarnessError
from harness.models.state import replacing
from harness.spec import canonical_json

SCHEMA_VERSION = 1
"""Version of the tensors' names and of the notes; a reader refuses any other."""
FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after a finished epoch."""

    tensors: Mapping[str, Tensor]
    """"model.<name>", "average.<name>", "best.<name>", "optimiser.<number>.<name>"."""
    notes: Mapping[str, Any]
    """Plain JSON values: epoch, history, best epoch and the like."""


def save_snapshot(snapshot: Snapshot, folder: Path, *, fingerprint: str) -> None:
    """Writes a snapshot; if the process is killed meanwhile, the snapshot before it stays.

    Args:
        snapshot: The state.
        folder: Where to write it; created if it is missing.
        fingerprint: Identifies the training run: recipe, seed, data, first weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"schema_version": str(SCHEMA_VERSION), "fingerprint": fingerprint, "notes": canonical_json(dict(snapshot.notes))}
    tensors = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in snapshot.tensors.items()
    }
    with replacing(folder / FILE) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_snapshot(folder: Path, *, fingerprint: str) -> Snapshot | None:
    """Returns the snapshot in a folder, or None if there is none.

    Raises:
        HarnessError: if the file is damaged, of another format, or of another training run.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable itself
    except (SafetensorError, OSError) as error:
        raise HarnessError(f"{path}: expected a training checkpoint in safetensors, found {error}; delete it") from error
    if metadata.get("schema_version") != str(SCHEMA_VERSION):
        found = metadata.get("schema_version")
        raise HarnessError(f"{path}: expected a checkpoint of schema version {SCHEMA_VERSION}, found {found}; delete it")
    if metadata.get("fingerprint") != fingerprint:
        raise HarnessError(f"{path}: expected the checkpoint of this training, found one of another; delete it")
    return Snapshot(tensors, json.loads(metadata["notes"]))
