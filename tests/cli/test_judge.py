"""`harness judge FILE --data FOLDER` attacks a finished model, and writes the suite that repeats it."""

from pathlib import Path

import pandas as pd
import pytest

from harness import load_results, load_suite
from harness.models.h5 import save_h5
from harness.models.timm import Timm
from tests.cli.test_main import call
from tests.conftest import MakeFolder
from tests.finished import save_script, save_state

CLASSES = ("Leek", "Onion", *(f"class {number}" for number in range(8)))
QUICK = ("--set", "attacks={fgsm: {name: fgsm}}", "--resolution", "16")


@pytest.fixture
def folder(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_folder("photos", splits={"": 6})
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    save_state(tmp_path / "net.pth")
    save_script(tmp_path / "net.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge(file: str, *options: str) -> int:
    return call("judge", file, "--data", "photos", "--device", "cpu", *options)


def test_suite_beside_the_results_repeats_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--classes", "classes.txt", "--eps", "8/255", "--eps", "2/255")
    assert judge("net.pt", *options, *QUICK) == 0
    said = capsys.readouterr().out
    assert "net\tgiven" in said
    assert "results/judge-net/report.html" in said
    results = load_results("results/judge-net")
    assert set(results.cells["n_examples"]) == {12}  # the whole folder, as it has no splits
    assert call("run", "results/judge-net/suite.yaml", "--out", "again", "--store", "elsewhere", "--device", "cpu") == 0
    again = load_results("again").cells
    columns = ["model", "attack", "eps", "accuracy", "digest"]
    pd.testing.assert_frame_equal(again[columns], results.cells[columns])


def test_shipped_attacks_are_those_of_a_judgement(folder: Path) -> None:
    assert (
        judge("net.pt", "--classes", "classes.txt", "--eps", "4/255", "--resolution", "16", "--set", "attacks.pgd.steps=2") == 0
    )
    suite = load_suite("results/judge-net/suite.yaml")
    assert list(suite.attacks) == ["random_noise", "fgsm", "pgd", "audited"]
    assert suite.attacks["pgd"].plugin.model_dump()["steps"] == 2  # what --set says is in the file


def test_state_dict_is_loaded_into_the_named_architecture(folder: Path) -> None:
    arch = ("--arch", "tests.nets:small_convnet", "--classes", "classes.txt", "--set", "architecture.mean=[0.5, 0.5, 0.5]")
    assert judge("net.pth", *arch, "--set", "architecture.std=[0.5, 0.5, 0.5]", "--out", "out", *QUICK) == 0
    assert judge("net.pt", "--classes", "classes.txt", *QUICK) == 0
    state, script = (load_results(place).cells["accuracy"] for place in ("out", "results/judge-net"))
    assert (state - script).abs().max() <= 1.01 / 12


def test_file_of_export_names_architecture_classes_and_resolution(folder: Path) -> None:
    names = ("Onion", "Leek")
    classifier = Timm(arch="test_efficientnet").build(names, resolution=32, seed=0)
    save_h5(classifier, Path("own.h5"), arch="test_efficientnet", resolution=32, summary={}, builder="timm", resize="crop")
    assert judge("own.h5", *QUICK[:2]) == 0
    suite = load_suite("results/judge-own/suite.yaml")
    assert (suite.dataset.resolution, suite.dataset.model_dump()["resize"]) == (32, "crop")
    assert suite.adapter_of("own").classes == names


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("net.pth", (), "net.pth: holds tensors alone: expected --arch NAME beside it, such as --arch efficientnet_b0"),
        ("net.pth", ("--arch", "test_resnet"), "test_resnet: the weights in"),
        ("net.pth", ("--arch", "test_resnext"), "timm has no model 'test_resnext'"),
        ("net.pth", ("--arch", "tests.nets:small_convnet"), "expected a head of 2 logits, got one of 10; `classes:`"),
        ("absent.pth", (), "absent.pth: expected a file of weights, found none"),
        ("photos", (), "photos: expected a file of weights, found a folder"),
        ("net.pt", (), "expected logits of shape (2, 2) for two images, got a tensor of shape (2, 10); `classes:`"),
        ("net.pt", ("--classes", "absent.txt"), "models.net.classes: "),
        ("net.pt", ("--eps", "x"), '--eps: expected a budget like "8/255" or 0.03, got'),
        ("net.pt", ("--set", "model.net=1"), "model: unknown field; did you mean 'models'"),
    ],
)
def test_bad_input_is_one_line(
    file: str, options: tuple[str, ...], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(file, *options, *QUICK) == 2
    said = [line for line in capsys.readouterr().err.strip().splitlines() if not line.startswith("INFO: ")]
    assert len(said) == 1
    assert message in said[0]
    assert not Path("results").exists()


def test_folder_with_validation_images_is_judged_on_these_and_training_images_alone_are_refused(
    make_folder: MakeFolder, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder("split", splits={"train": 5, "val": 3})
    options = ("--classes", "classes.txt", "--device", "cpu", *QUICK)
    assert call("judge", "net.pt", "--data", "split", *options) == 0
    assert set(load_results("results/judge-net").cells["n_examples"]) == {6}
    make_folder("seen", splits={"train": 5})
    capsys.readouterr()
    assert call("judge", "net.pt", "--data", "seen", *options) == 2
    assert "expected a folder test or validation for a finished model, found training images alone" in capsys.readouterr().err
