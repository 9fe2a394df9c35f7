"""TorchScript files are programs: those that could touch files are refused before any of their code runs."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from harness.errors import ModelError
from harness.models.scripted import MOST_CODE, TorchScript
from tests.nets import small_convnet

MARKER = "MARKER"
"""Stands in code for the path of a file that must not be made."""


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


BODIES = {
    "operator": f'torch.save(x, "{MARKER}")',
    "method of a tensor": f'x.save("{MARKER}")',
    "mapped file": f'torch.from_file("{MARKER}", True, 8, dtype=6)',
    "method of a text": f'("{MARKER}").from_file(True, 8)',
    "operator by namespace": f'ops.aten.save(x, "{MARKER}")',
    "bound name": f'f = torch.save\n    f(x, "{MARKER}")',
    "extension": f'ops.image.write_file("{MARKER}", torch.to(x, 0))',
    "bound namespace": f'o = ops\n    o.image.write_file("{MARKER}", torch.to(x, 0))',
    "other class": "y = __torch__.torch.classes.profiler._RecordFunction",
    "hidden name": f'getattr(x, "\\163ave")("{MARKER}")',
}


def with_code(path: Path, change: Callable[[str], str]) -> str:
    """Writes a TorchScript file whose code is changed."""
    torch.jit.script(Net()).save(str(path))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content.decode()).encode() if name.endswith(".py") else content)
    return str(path)


@pytest.mark.parametrize("body", BODIES)
def test_code_that_could_write_a_file_is_refused_before_it_runs(body: str, tmp_path: Path) -> None:
    marker = tmp_path / "written"
    line = BODIES[body].replace(MARKER, str(marker))
    weights = with_code(tmp_path / "net.pt", lambda code: code.replace("    return ", f"    {line}\n    return ", 1))
    with pytest.raises(ModelError, match="computes with tensors, found one whose code") as caught:
        TorchScript(weights=weights).backbone(4)(torch.zeros(1, 3, 4, 4))
    assert len(str(caught.value).splitlines()) == 1
    assert not marker.exists()


def test_code_that_runs_when_the_file_is_loaded_is_refused_too(tmp_path: Path) -> None:
    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.path = str(tmp_path / "written")

        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return self.path, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.path, self.training = state[0], state[1]
            torch.save(torch.zeros(1), self.path)

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    torch.jit.script(Loud()).save(str(tmp_path / "net.pt"))
    with pytest.raises(ModelError, match="names 'save'"):
        TorchScript(weights=str(tmp_path / "net.pt")).backbone(4)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("make", [lambda: small_convnet(4), lambda: torchvision.models.mobilenet_v3_small(num_classes=4)])
@pytest.mark.parametrize("how", ["traced", "scripted"])
def test_usual_networks_are_loaded(make: Callable[[], nn.Module], how: str, tmp_path: Path) -> None:
    network, x = make().eval(), torch.rand(2, 3, 32, 32)
    (torch.jit.trace(network, x) if how == "traced" else torch.jit.script(network)).save(str(tmp_path / "net.pt"))
    loaded = TorchScript(weights=str(tmp_path / "net.pt")).backbone(4)
    torch.testing.assert_close(loaded(x), network(x))


def test_code_that_unpacks_to_any_length_is_refused(tmp_path: Path) -> None:
    weights = with_code(tmp_path / "net.pt", lambda code: code)
    with zipfile.ZipFile(weights, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/code/more.py", " " * (MOST_CODE + 1))
    with pytest.raises(ModelError, match="bytes of code, found more"):
        TorchScript(weights=weights).backbone(4)
