"""Files of weights: .safetensors, .pth and .h5 to named tensors and back; reading them never runs code."""

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.errors import ModelError, first_line
from harness.models.classifier import Classifier
from harness.models.h5 import read_h5
from harness.models.state import replacing, state_of
from harness.system.messages import shown

NAMED_CODE = re.compile(r"(?:Unsupported (?:global: GLOBAL|class)|GLOBAL) ([\w.]+)")
"""How PyTorch's unpickler names what a pickle wants to import."""

logger = logging.getLogger(__name__)

NESTED = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
"""Keys of a .pth file under which trainers store the state dict."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the named tensors of a file of weights, on the CPU.

    torch's restricted unpickler reads .pth files; it runs no code.

    Args:
        path: A .safetensors, .pth, .pt or .h5 file. A .h5 file has the buffers "mean" and "std" too.

    Raises:
        ModelError: if the file is missing, truncated, of another format, or is a pickle that wants to run code.
    """
    path = path.expanduser()
    if path.suffix not in READERS:
        raise ModelError(f"{path}: expected a file of weights ending in {', '.join(READERS)}, got {path.suffix or 'none'!r}")
    if not path.is_file():
        raise ModelError(f"{path}: expected a file of weights, found none")
    return READERS[path.suffix](path)


def save_safetensors(classifier: Classifier, path: Path) -> None:
    """Writes the whole classifier, its normalisation included; the file is replaced by one rename."""
    with replacing(path) as temporary:
        save_file(state_of(classifier), temporary)


def save_pth(classifier: Classifier, path: Path) -> None:
    """Writes the backbone's state dict under its own names; the file is replaced by one rename.

    `timm.create_model(arch, num_classes=K).load_state_dict(torch.load(path, weights_only=True))` reads it. It
    does not hold the normalisation, as the .h5 and .safetensors files do.
    """
    with replacing(path) as temporary:
        torch.save(state_of(classifier.backbone), temporary)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: expected a complete safetensors file, found {error}") from error


def _read_pth(path: Path) -> dict[str, Tensor]:
    _check_uncompressed(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found_instead = (str(error).strip().splitlines() or ["a damaged pickle"])[0]
        if code := NAMED_CODE.search(str(error)):
            found_instead = f"it needs {code.group(1)}; torch.save(model.state_dict(), ...) writes tensors only"
        raise ModelError(f"{path}: expected tensors only; nothing was run of what it holds: {found_instead}") from error
    except Exception as error:  # the unpickler raises what it meets in damaged bytes: IndexError, struct.error, AssertionError
        raise ModelError(f"{path}: expected a complete .pth file, found {first_line(error)}") from error
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            logger.info("%s: its weights are those under %r", path, key)
    if not isinstance(found, Mapping) or not found or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise ModelError(f"{path}: expected a state dict of named tensors, found {type(found).__name__}")
    for name, tensor in found.items():
        _check_values(tensor, name, path)
    return dict(found)


def _check_uncompressed(path: Path) -> None:
    """Refuses an archive that unpacks to more than it holds; `torch.save` compresses nothing, but `torch.load` reads it."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):  # an older form, or damage, which `torch.load` names
        return
    if unpacked > (size := path.stat().st_size):
        raise ModelError(f"{path}: expected what torch.save writes, uncompressed, found {unpacked:,} bytes in a file of {size:,}")


def _check_values(tensor: Tensor, name: object, path: Path) -> None:
    """Refuses a tensor that declares more values than the file has for it: it would take any amount of memory once copied."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        raise ModelError(f"{path}: {shown(name)}: expected a dense tensor, found {tensor.layout} on {tensor.device}")
    declared, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if declared > held:
        raise ModelError(f"{path}: {shown(name)}: expected a tensor of the {held:,} bytes that are stored, found {declared:,}")


def _read_h5(path: Path) -> dict[str, Tensor]:
    saved = read_h5(path)
    return {"mean": torch.tensor(saved.mean), "std": torch.tensor(saved.std), **saved.weights}


READERS = {
    ".safetensors": _read_safetensors,
    ".pth": _read_pth,
    ".pt": _read_pth,
    ".h5": _read_h5,
}
