"""Files of trained models: written by name and format, read back equal."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
import torch
from safetensors.torch import load_file

from harness.cli.main import main
from harness.deployment.model_files import ENDINGS, WEIGHTS, export
from harness.errors import ModelError, StepFailed, SuiteError
from harness.export.runtime import OnnxModel
from harness.models.fitting import load_into
from harness.models.h5 import read_h5
from harness.models.timm import Timm, load_h5
from harness.models.weights import read_weights
from tests.deployed import Deployed, broken_export, deployed
from tests.nets import small_convnet

__all__ = ["broken_export", "deployed"]

POISONED = "baseline@backdoor@0.1"


def write(found: Deployed, model: str, file_format: str, folder: Path) -> Path:
    return export(found.suite(), model, file_format, out=folder / f"model{ENDINGS[file_format]}", store=found.store)


@pytest.mark.parametrize("file_format", ["pth", "h5"])
@pytest.mark.parametrize("model", ["baseline", POISONED])
def test_weights_are_read_back_bit_for_bit(deployed: Deployed, tmp_path: Path, file_format: str, model: str) -> None:
    net = small_convnet(10)
    load_into(net, read_weights(write(deployed, model, file_format, tmp_path)), allow_new_head=False)
    wanted = deployed.model(model).classifier(deployed.bench().context).backbone.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in net.state_dict().items())


def test_safetensors_hold_the_normalisation_too(deployed: Deployed, tmp_path: Path) -> None:
    found = load_file(write(deployed, "baseline", "safetensors", tmp_path))
    assert found["std"].flatten().tolist() == [0.25, 0.25, 0.25]
    assert found.keys() == deployed.model().classifier(deployed.bench().context).state_dict().keys()


def test_h5_tells_architecture_classes_preprocessing_and_training(deployed: Deployed, tmp_path: Path) -> None:
    path = write(deployed, "baseline", "h5", tmp_path)
    saved = read_h5(path)
    assert (saved.arch, saved.resolution, saved.resize) == ("tests.nets:small_convnet", 16, "squash")
    assert saved.class_names == tuple("0123456789")
    assert (saved.builder, saved.arguments) == ("factory", {})
    assert saved.summary["best_epoch"] >= 0
    with h5py.File(path) as file:
        assert file.attrs["schema_version"] == 1


def test_h5_tells_what_the_architecture_is_built_with(tmp_path: Path) -> None:
    architecture = Timm(arch="test_efficientnet", arguments={"act_layer": "relu"})
    built = architecture.build("abc", resolution=32, seed=0)
    train = SimpleNamespace(
        architecture=architecture, resolution=32, classifier=lambda _: built, summary=lambda _: {"best_epoch": 0}
    )
    bench = SimpleNamespace(context=None, plan=SimpleNamespace(suite=SimpleNamespace(dataset=None)))
    WEIGHTS["h5"](bench, train, tmp_path / "x.h5")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_h5(tmp_path / "x.h5")(x), built(x))


@pytest.mark.parametrize("file_format", ["onnx", "deploy", "int8", "fp16"])
def test_onnx_files_open_in_the_runtime(deployed: Deployed, tmp_path: Path, file_format: str) -> None:
    model = OnnxModel(write(deployed, "baseline", file_format, tmp_path), num_classes=10)
    assert model.takes_pixels == (file_format == "deploy")


def test_file_goes_below_the_results_unless_named(deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = export(deployed.suite(), POISONED, "pth", store=deployed.store)
    assert path == Path("results") / "deployed" / "models" / f"{POISONED}.pth"
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_unknown_names_are_refused_with_the_known_ones(deployed: Deployed, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"model: expected one of baseline, baseline@backdoor@0\.1, other, got 'hardened'"):
        write(deployed, "hardened", "onnx", tmp_path)
    with pytest.raises(ModelError, match="format: expected one of pth, h5, safetensors, onnx, deploy, int8, fp16, got 'tflite'"):
        export(deployed.suite(), "baseline", "tflite", store=deployed.store)


def test_nothing_is_trained(deployed: Deployed, tmp_path: Path) -> None:
    suite = deployed.suite("models.other.recipe.epochs=8")
    with pytest.raises(ModelError, match="other: expected a finished training"):
        export(suite, "other", "pth", out=tmp_path / "x.pth", store=deployed.store)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [1, 400])
def test_damaged_weights_are_not_exported(deployed: Deployed, tmp_path: Path, cut: int) -> None:
    store = tmp_path / "store"
    shutil.copytree(deployed.store, store)
    weights = store / "train" / deployed.model().digest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-cut] + bytes(cut if cut == 1 else 0))
    with pytest.raises(ModelError, match=r"baseline: its stored result is damaged \(model.safetensors"):
        export(deployed.suite(), "baseline", "pth", out=tmp_path / "x.pth", store=store)
    assert not (tmp_path / "x.pth").exists()


@pytest.mark.usefixtures("broken_export")
def test_file_that_fails_its_comparison_leaves_what_was_there(deployed: Deployed, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("before")
    with pytest.raises(StepFailed, match="export other as onnx: it computes something else"):
        write(deployed, "other", "onnx", tmp_path)
    assert (tmp_path / "model.onnx").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_place_that_cannot_be_written_is_one_line(deployed: Deployed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="the file cannot be written"):
        export(deployed.suite(), "baseline", "pth", out=tmp_path / "file" / "x.pth", store=deployed.store)


def test_command_line_prints_the_path(deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "x.safetensors"
    arguments = ["--model", "other", "--format", "safetensors", "--out", str(out), "--store", str(deployed.store)]
    with pytest.raises(SystemExit) as stop:
        main(["export", str(deployed.file), *arguments])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.is_file()
