"""A fitted network and files of it, written once."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.finished import FACTORY
from tests.onnxfile.files import fitted, quantised, save_onnx


class Files(NamedTuple):
    """A network that tells digits apart, and files of it."""

    folder: Path
    network: nn.Module
    x: Tensor
    y: Tensor

    def __getattr__(self, name: str) -> str:
        """Returns the path of a file."""
        return str(self.folder / name.replace("_", "."))

    @property
    def twin(self) -> dict[str, object]:
        """The network as a finished model of a suite."""
        return {"architecture": FACTORY, "weights": self.net_pth}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("onnx")
    network, x, y = fitted()
    torch.save(network.state_dict(), folder / "net.pth")
    torch.save(fitted(seed=1)[0].state_dict(), folder / "other.pth")
    save_onnx(folder / "net.onnx", network)
    quantised(folder / "net.onnx", folder / "int8.onnx", x[:64])
    return Files(folder, network, x, y)
