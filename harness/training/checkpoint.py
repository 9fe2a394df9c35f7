"""The state of a training run after an epoch, in one safetensors file that a rename replaces."""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
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
DAMAGED = "checkpoint.damaged"
"""New name of a damaged file."""

logger = logging.getLogger(__name__)


class DamagedCheckpoint(HarnessError):
    """The error of a file that is not a checkpoint, or not a complete one."""


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
    tensors = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in snapshot.tensors.items()
    }
    notes = canonical_json(dict(snapshot.notes))
    metadata = {
        "schema_version": str(SCHEMA_VERSION),
        "fingerprint": fingerprint,
        "notes": notes,
        "content": _content(tensors, fingerprint, notes),
    }
    with replacing(folder / FILE) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def usable_snapshot(folder: Path, *, fingerprint: str) -> Snapshot | None:
    """Returns the snapshot in a folder, or None if training cannot resume there; a damaged file is renamed, with a warning.

    Raises:
        HarnessError: if the file cannot be read, or is of another training run.
    """
    try:
        return load_snapshot(folder, fingerprint=fingerprint)
    except DamagedCheckpoint as damage:
        logger.warning("%s; it is set aside as %s, and the training begins anew", damage, DAMAGED)
        with suppress(FileNotFoundError):  # of several processes that share a training, the first one renames it
            (folder / FILE).replace(folder / DAMAGED)
        return None


def load_snapshot(folder: Path, *, fingerprint: str) -> Snapshot | None:
    """Returns the snapshot in a folder, or None if there is none.

    Raises:
        DamagedCheckpoint: if the file is damaged or of another format.
        HarnessError: if it cannot be read, or is of another training run.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable itself
    except SafetensorError as error:
        raise DamagedCheckpoint(f"{path}: expected a training checkpoint in safetensors, found {error}") from error
    except OSError as error:
        raise HarnessError(f"{path}: expected a readable training checkpoint, found {error}") from error
    if metadata.get("schema_version") != str(SCHEMA_VERSION):
        found = metadata.get("schema_version")
        raise DamagedCheckpoint(f"{path}: expected a checkpoint of schema version {SCHEMA_VERSION}, found {found}")
    owner, notes = metadata.get("fingerprint", ""), metadata.get("notes", "")
    if metadata.get("content", "") not in ("", _content(tensors, owner, notes)):  # older versions did not write it
        raise DamagedCheckpoint(f"{path}: expected a checkpoint with the hash that it was written with, found another")
    if owner != fingerprint:
        raise HarnessError(f"{path}: expected the checkpoint of this training, found one of another; delete it")
    return Snapshot(tensors, json.loads(notes))


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """Returns the sha256 of named tensors, contiguous on the CPU."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _content(tensors: Mapping[str, Tensor], fingerprint: str, notes: str) -> str:
    return hashlib.sha256(f"{hash_of(tensors)} {fingerprint} {notes}".encode()).hexdigest()
