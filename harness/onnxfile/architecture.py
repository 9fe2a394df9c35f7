"""The architecture of a finished ONNX file: its graph is its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.models.base import Architecture
from harness.onnxfile.content import content_sha256, onnx_path, precision_of, structure

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.export.metadata import Metadata
    from harness.onnxfile.content import Precision

SUFFIX = ".onnx"


class OnnxFile(Architecture):
    """The graph in an ONNX file, run by ONNX Runtime. Images are in [0,1] unless mean and std are named, or it takes uint8."""

    name: Literal["onnx"] = "onnx"
    arch: str = "onnx"

    def identity(self) -> dict[str, Any]:
        """See `Architecture.identity`; the hash is of the content, with that of external data."""
        fields = self.model_copy(update={"weights": None})
        return {**Architecture.identity(fields), "weights_sha256": self.sha256()}

    def sha256(self) -> str:
        """Returns the hash of its content, see `content_sha256`."""
        return content_sha256(self.path)

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            ModelError: if there is none.
        """
        return onnx_path(str(self.weights))

    def precision(self) -> Precision:
        """Returns the coarsest number format that it computes in."""
        return precision_of(structure(self.path))

    def check_weights(self) -> None:
        """See `Architecture.check_weights`."""
        _ = self.sha256()

    def state(self) -> Mapping[str, Tensor]:
        """See `Architecture.state`: none."""
        return {}

    def normalisation(self, backbone: nn.Module, state: Mapping[str, Tensor]) -> tuple[Sequence[float], Sequence[float]]:
        """See `Architecture.normalisation`; without the fields images stay in [0,1], or go up to 255 as whole numbers."""
        from harness.onnxfile.network import WHITE, Graph

        white = WHITE if isinstance(backbone, Graph) and backbone.form.is_whole else 1.0
        return self.mean or (0.0,) * 3, self.std or (1 / white,) * 3

    def backbone(self, num_classes: int) -> nn.Module:
        """See `Architecture.backbone`; its outputs are those of the file, whatever the number of classes."""
        from harness.onnxfile.network import OnnxNetwork
        from harness.onnxfile.session import Session

        return OnnxNetwork(Session(self.path), content=self.sha256()).eval()


def is_onnx(file: str) -> bool:
    """Returns whether a file is one of ONNX, by its name."""
    return file.lower().endswith(SUFFIX)


def metadata_in(file: str) -> Metadata | None:
    """Returns what `harness export` wrote into an ONNX file; None of a file of another program, and where there is none.

    Raises:
        ModelError: if the file is damaged.
    """
    path = Path(file).expanduser()
    if not is_onnx(file) or not path.is_file():
        return None
    state = path.stat()
    return _metadata(path, state.st_mtime_ns, state.st_size)


def resolution_in(file: str) -> int | None:
    """Returns the side length of the images that an ONNX file takes, where it says so.

    Raises:
        ModelError: if it is damaged, or its input is no batch of images.
    """
    from harness.onnxfile.session import Session

    metadata = metadata_in(file)
    return Session(onnx_path(file)).images().resolution if metadata is None else metadata.resolution


@lru_cache(maxsize=8)
def _metadata(path: Path, _written: int, _size: int) -> Metadata | None:
    from harness.export.metadata import Metadata

    props = {entry.key: entry.value for entry in structure(path).metadata_props}
    return Metadata.from_props(props, str(path))
