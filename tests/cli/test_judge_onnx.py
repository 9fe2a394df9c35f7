"""`harness judge FILE.onnx` attacks the file, with the gradient of its twin or its graph, or with none."""

from pathlib import Path

import pytest
import torch

from harness import load_results, load_suite
from harness.errors import ModelError
from tests.cli.test_main import call
from tests.conftest import MakeFolder
from tests.finished import network
from tests.onnxfile.files import save_onnx

CLASSES = ("Leek", "Onion", *(f"class {number}" for number in range(8)))
ARCH = ("--arch", "tests.nets:small_convnet", "--set", "architecture.mean=[0.5, 0.5, 0.5]")
QUICK = ("--set", "attacks={fgsm: {name: fgsm}}", "--eps", "4/255")


@pytest.fixture
def folder(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_folder("photos", splits={"": 6})
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    save_onnx(tmp_path / "net.onnx", network())
    save_onnx(tmp_path / "two.onnx", network(), also="features")
    save_onnx(tmp_path / "secret.onnx", network(), custom=True)
    for name, seed in (("net.pth", 0), ("other.pth", 1)):
        torch.save(network(seed=seed).state_dict(), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge(file: str, *options: str) -> int:
    return call("judge", file, "--data", "photos", "--device", "cpu", "--classes", "classes.txt", *options)


def test_file_is_judged_beside_its_twin_and_the_suite_repeats_it(folder: Path) -> None:
    assert judge("net.onnx", "--against", "net.pth", *ARCH, "--set", "architecture.std=[0.5, 0.5, 0.5]", *QUICK) == 0
    suite = load_suite("results/judge-net/suite.yaml")
    assert suite.dataset.resolution == 16  # the file says so
    assert list(suite.models) == ["net-twin", "net"]
    results = load_results("results/judge-net")
    file, twin = (results.cells[results.cells["model"] == label].reset_index() for label in ("net", "net-twin"))
    assert file["accuracy"].tolist() == twin["accuracy"].tolist()
    assert results.provenance["models"]["net"]["gradient"] == "the gradient of its twin net-twin"
    assert call("run", "results/judge-net/suite.yaml", "--out", "again", "--store", "elsewhere", "--device", "cpu") == 0
    assert load_results("again").cells["digest"].tolist() == results.cells["digest"].tolist()


def test_file_without_gradient_is_attacked_by_logits_and_by_labels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(session: object) -> None:
        raise ModelError("onnx2torch is not installed")

    monkeypatch.setattr("harness.onnxfile.conversion.converted", refuse)
    monkeypatch.setattr("harness.suites.judged.QUERIES", 20)
    assert judge("net.onnx", "--eps", "16/255") == 0
    cells = load_results("results/judge-net").cells
    assert list(cells["attack"]) == ["none", "random_noise", "square", "hop_skip_jump"]
    assert not cells["verdict_reasons"].str.contains("gradient").any()  # nothing that needs one was tried
    said = capsys.readouterr().err
    assert said.count("no gradient, black-box attacks only: onnx2torch is not installed") == 1


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("two.onnx", (), "two.onnx: models.two: onnx: expected logits of shape (2, 10) for two images, got a mapping with"),
        (
            "secret.onnx",
            (),
            "secret.onnx: expected operators that ONNX Runtime knows, got the custom operator com.example.Secret",
        ),
        ("net.onnx", ("--resolution", "32"), "expected images of 16 x 16 pixels, got 32 x 32; `dataset.resolution: 16`"),
        ("net.onnx", ("--resolution", "0"), "dataset.resolution: expected a number >= 8, got 0"),
        ("net.onnx", ("--against", "other.pth", *ARCH, "--set", "architecture.std=[1, 1, 1]"), "got another one in other"),
        ("net.onnx", ("--against", "net.pth"), "net.pth: holds tensors alone: expected --arch NAME beside it"),
        ("net.onnx", ("--against", "net.pth", "--arch", "test_resnet"), "test_resnet: the weights in"),
        (
            "net.onnx",
            ("--against", "net.onnx"),
            "models.net.twin: expected a finished model of PyTorch or a file, got 'net-twin'",
        ),
        ("net.pth", ("--against", "net.pth", *ARCH), "--against: expected an ONNX file to judge, got net.pth"),
        ("absent.onnx", (), "onnx: expected an ONNX file at absent.onnx, found none"),
    ],
)
def test_bad_input_is_one_line(
    file: str, options: tuple[str, ...], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(file, *options, *QUICK) == 2
    said = [line for line in capsys.readouterr().err.strip().splitlines() if not line.startswith(("INFO: ", "WARNING: "))]
    assert len(said) == 1
    assert message in said[0]
    assert not Path("results").exists()
