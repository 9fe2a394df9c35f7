"""Networks that bring their own code: a TorchScript file, and a module that a caller holds in memory."""

from __future__ import annotations

import copy
import hashlib
import inspect
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import PrivateAttr

from harness.errors import ModelError, first_line
from harness.models.base import Architecture
from harness.models.fingerprint import state_sha256
from harness.system.lazy import torch
from harness.system.messages import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

CODE = "/code/"
"""Folder of the code in an archive; PyTorch looks names up without regard to case."""
MOST_CODE = 32 * 2**20
HARMLESS = "aten|prim|quantized|_quantized|prepacked|mkldnn|onednn|torchvision"
"""Namespaces of operators that compute with tensors."""
FORBIDDEN = re.compile(
    r"\b(?:save|from_file)\b"  # of PyTorch, which also tensors and texts have as methods; as words, as names can be bound
    rf"|(?<![\w.])ops\b(?!\s*\.\s*(?:{HARMLESS})\b)(?:\s*\.\s*\w+)*"  # of extensions: torchvision's `image.write_file`
    r"|\btorch\s*\.\s*classes\b(?!\s*\.\s*(?:quantized|rnn|sparse|xnnpack|mkldnn)\b)(?:\s*\.\s*\w+)*"
)
"""What code must not name: operators that take a path, and operators and classes that are not known to be harmless."""


def is_torchscript(path: str) -> bool:
    """Returns whether a file is an archive of TorchScript, by its table of contents; False if there is none."""
    try:
        with zipfile.ZipFile(Path(path).expanduser()) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, RuntimeError):
        return False


class _AsGiven(Architecture):
    """A network with its weights in it: nothing is loaded into it, and its images are in [0,1] unless mean and std are named."""

    def state(self) -> Mapping[str, Tensor]:
        """See `Architecture.state`: none."""
        return {}

    def normalisation(self, backbone: nn.Module, state: Mapping[str, Tensor]) -> tuple[Sequence[float], Sequence[float]]:
        """See `Architecture.normalisation`; without the fields nothing is subtracted."""
        return self.mean or (0.0,) * 3, self.std or (1.0,) * 3


class TorchScript(_AsGiven):
    """The network in a TorchScript file, which is a program: one that names an operator that reads or writes files is refused."""

    name: Literal["torchscript"] = "torchscript"
    arch: str = "torchscript"

    def check_weights(self) -> None:
        """See `Architecture.check_weights`."""
        self.backbone(0)

    def backbone(self, num_classes: int) -> nn.Module:
        """See `Architecture.backbone`."""
        path = Path(str(self.weights)).expanduser()
        _check_code(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, and files of it are in use
                return torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"weights: expected a complete TorchScript file at {path}, found {first_line(error)}") from error


def _check_code(path: Path) -> None:
    """Refuses a program that names what it does not need to compute with tensors, before any of it runs.

    Loading alone runs a module's `__setstate__`. PyTorch has operators that write files (`torch.save`, `torch.from_file`), and so
    have its extensions.

    Raises:
        ModelError: if it does, or its code is larger than that of any network.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if _is_code(member.filename)]
            if sum(member.file_size for member in members) > MOST_CODE:
                raise ModelError(f"weights: {path}: expected at most {MOST_CODE:,} bytes of code, found more")
            texts = [archive.read(member).decode("utf-8", "replace") for member in members]
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, NotImplementedError, EOFError, zlib.error) as error:
        raise ModelError(f"weights: expected a complete TorchScript file at {path}, found {first_line(error)}") from error
    for text in texts:
        said = "a network that computes with tensors, found one whose code"
        if found := FORBIDDEN.search(text):
            raise ModelError(f"weights: {path}: expected {said} names {shown(found[0])}")
        if "getattr" in text and "\\" in text:
            raise ModelError(f"weights: {path}: expected {said} has names in escapes")


def _is_code(name: str) -> bool:
    return name.lower().endswith(".py") and CODE in f"/{name.lower()}"


class InMemory(_AsGiven):
    """A module that a caller gives from Python; what is judged is a copy. Its digest is of its class, its text and its state."""

    name: Literal["in_memory"] = "in_memory"
    state_sha256: str
    """sha256 of its weights and buffers."""
    code_sha256: str
    """sha256 of the source of its class, where Python knows it, and of its printed form."""
    _module: Any = PrivateAttr(default=None)

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """Returns the architecture of a module as it is now."""
        code = hashlib.sha256(f"{_source(type(module))}\n{module!r}".encode()).hexdigest()
        found = cls(arch=type(module).__name__, state_sha256=state_sha256(module), code_sha256=code)
        found._module = module
        return found

    def backbone(self, num_classes: int) -> nn.Module:
        """See `Architecture.backbone`."""
        try:
            with torch.no_grad():  # else a copy of TorchScript has weights that are no leaves
                module = copy.deepcopy(self._module)
        except (RuntimeError, TypeError, pickle.PicklingError) as error:
            raise ModelError(f"{self.arch}: expected a module that can be copied, found {first_line(error)}") from error
        return module.cpu().eval()


def _source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # typed into a shell, or of compiled code
        return cls.__qualname__
