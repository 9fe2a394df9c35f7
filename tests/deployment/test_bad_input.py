"""Files and arguments that the cross-check refuses: one line that names the place, and exit code 2."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch

from harness.bundle import BundleCondition, BundleWriter
from harness.export.onnx import export_model
from harness.models.classifier import Classifier
from tests.deployed import Deployed
from tests.deployment.commands import call, of_bundle
from tests.nets import small_convnet


def of_three_classes(folder: Path) -> Path:
    """A sound file of a net with 3 classes."""
    net = Classifier(small_convnet(3), mean=(0.5,) * 3, std=(0.5,) * 3, class_names=("a", "b", "c")).eval()
    export_model(net, folder / "three.onnx", resolution=16, samples={"grey": torch.full((1, 3, 16, 16), 0.5)})
    return folder / "three.onnx"


def of_small_images(folder: Path) -> Path:
    """A sound file for images of 8x8."""
    names = tuple("0123456789")
    net = Classifier(small_convnet(10), mean=(0.5,) * 3, std=(0.5,) * 3, class_names=names).eval()
    export_model(net, folder / "small.onnx", resolution=8, samples={"grey": torch.full((1, 3, 8, 8), 0.5)})
    return folder / "small.onnx"


def of_other_names(file: Path, folder: Path) -> Path:
    """A sound file whose outputs are in another order, as it says."""
    model = onnx.load(file)
    for entry in model.metadata_props:
        if entry.key == "class_names":
            entry.value = json.dumps([*reversed(json.loads(entry.value))])
    onnx.save(model, folder / "reversed.onnx")
    return folder / "reversed.onnx"


def test_bad_files_are_one_line_and_exit_code_two(
    deployed: Deployed, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(file.read_bytes()[:-200])
    cases = {
        tmp_path / "none.onnx": "expected an ONNX file, found none",
        truncated: "expected a readable ONNX model",
        of_three_classes(tmp_path): "expected 10 classes, got 3",
        of_small_images(tmp_path): "expected images of float32 (batch, 3, 8, 8), got float32 (1, 3, 16, 16)",
        of_other_names(file, tmp_path): "metadata class_names: expected 0 as class 0, got 9",
    }
    for path, message in cases.items():
        assert call(deployed, tmp_path / "out", "--onnx", str(path)) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def written(path: Path, *, classes: int = 10, side: int = 16) -> Path:
    x, y, spec = np.full((5, 3, side, side), 0.5, np.float32), np.arange(5) % classes, BundleCondition(name="clean", kind="clean")
    with (
        BundleWriter(path, class_names=[str(k) for k in range(classes)], model="m", model_sha256="") as bundle,
        bundle.condition(spec) as condition,
    ):
        condition.append(x, y)
    return path


def changed(place: str, value: float) -> Callable[[Path], object]:
    """Returns the damage of another value of the fourth example."""

    def damage(path: Path) -> None:
        with h5py.File(written(path), "r+") as file:
            values = file[f"conditions/clean/{place}"]
            values[(3, *(0,) * (values.ndim - 1))] = value

    return damage


def claiming(path: Path) -> None:
    """Declares images that were never written."""
    with h5py.File(written(path), "r+") as file:
        del file["conditions/clean/x"]
        file["conditions/clean"].create_dataset("x", (5, 3, 4000, 4000), np.float32, chunks=(1, 3, 100, 100))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: None, "b.h5: expected a readable bundle, got FileNotFoundError"),
        (lambda path: path.write_text("no bundle"), "b.h5: expected a readable bundle, got ValueError: no HDF5 file"),
        (lambda path: path.write_bytes(written(path).read_bytes()[:4000]), "b.h5: expected a readable bundle, got OSError"),
        (changed("y", 10), "b.h5: /conditions/clean/y: expected labels from 0 to 9, got 0 to 10"),
        (changed("x", np.nan), "b.h5: /conditions/clean/x: expected finite values, got NaN or infinity"),
        (claiming, "b.h5: /conditions/clean/x: expected at most as many images as the file has room for, got 5"),
        (lambda path: written(path, classes=3), "theirs.onnx: expected 3 classes, got 10"),
        (
            lambda path: written(path, side=8),
            "theirs.onnx: expected images of float32 (batch, 3, 16, 16), got float32 (1, 3, 8, 8)",
        ),
    ],
)
def test_bundle_that_is_bad_or_does_not_fit_is_one_line_and_exit_code_two(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], message: str
) -> None:
    damage(tmp_path / "b.h5")
    assert of_bundle("--bundle", tmp_path / "b.h5", "--onnx", foreign, "--out", tmp_path / "out") == 2
    assert sum(message in line for line in capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.glob("out/*.csv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "other"], "--model: expected together with --onnx FILE"),
        (["--bundle", "b.h5"], "--bundle: expected together with --onnx FILE"),
        (["--judge", "never"], "--judge: expected together with --onnx FILE"),
        (["--onnx", "x.onnx", "--judge", "often"], "--judge: expected auto, always, never, got 'often'"),
        (["--onnx", "x.onnx", "--bundle", "b.h5"], "expected SUITE, or --bundle FILE without SUITE, --model and --set"),
        (["--set", "crosscheck.limit=0"], "crosscheck.limit: expected a number >= 1, got 0"),
        (["--set", "crosscheck.margin=nan"], "crosscheck.margin: expected a finite number, got 'nan'"),
        (["--set", "crosscheck.margin=.nan"], "crosscheck.margin: expected a finite number, got nan"),
        (["--set", "crosscheck.quantile_bound=inf"], "crosscheck.quantile_bound: expected a finite number"),
        (["--set", "crosscheck.quantile_bound=-1"], "crosscheck.quantile_bound: expected a number >= 0, got -1"),
        (["--set", "models.other.recipe.epochs=9"], "other: expected a finished training"),
        (["--device", "quantum"], "device: expected auto"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_two(
    deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert call(deployed, tmp_path, *arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
