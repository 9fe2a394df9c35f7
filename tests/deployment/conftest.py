import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.deployment.model_files import export
from harness.deployment.runtimes import VARIABLE, find_program
from harness.export.files import stamp
from harness.export.onnx import export_model
from harness.models.classifier import Classifier
from tests.deployed import Deployed, broken_export, deployed
from tests.nets import small_convnet

__all__ = ["broken_export", "deployed"]


@pytest.fixture(scope="session", autouse=True)
def own_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs a copy of the built evaluator, if there is one, which a build beside the tests cannot replace under them."""
    program = find_program()
    with pytest.MonkeyPatch.context() as patch:
        if program is not None:
            program = Path(shutil.copy2(program, tmp_path_factory.mktemp("program")))
            patch.setenv(VARIABLE, str(program))
        yield program or Path()


@pytest.fixture(scope="session")
def file(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of the model `other`."""
    out = tmp_path_factory.mktemp("files") / "mine.onnx"
    return export(deployed.suite(), "other", "onnx", out=out, store=deployed.store)


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound file of a network that nobody trained, which says nothing of itself."""
    torch.manual_seed(3)
    path, names = tmp_path_factory.mktemp("foreign") / "theirs.onnx", tuple("0123456789")
    net = Classifier(small_convnet(10), mean=(0.5,) * 3, std=(0.5,) * 3, class_names=names).eval()
    export_model(net, path, resolution=16, samples={"grey": torch.full((1, 3, 16, 16), 0.5)})
    stamp(path, {})
    return path
