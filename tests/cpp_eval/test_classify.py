import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image
from torch import nn

from harness.datasets.decoding import read_image
from harness.errors import DataError
from harness.export.onnx import export_deploy
from harness.images import MAX_PIXELS
from harness.models.classifier import Classifier
from tests.cpp_eval.conftest import Run, save_graph

Evaluator = Callable[..., Run]
NAMES = ("Bean", "Carrot", "Radish")


def pixels_of(path: Path) -> NDArray[np.uint8]:
    """Pixels (1, H, W, 3) as the Python package decodes them."""
    return read_image(path).permute(1, 2, 0)[None].numpy()


def comparing_graph(path: Path, expected: NDArray[np.uint8]) -> Path:
    """A graph whose first output is the largest difference from an image: a wrong size does not run at all."""
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["values", "expected"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("ReduceMax", ["distance"], ["largest"], keepdims=0),
        helper.make_node("Reshape", ["largest", "shape"], ["output"]),
    ]
    constants = {"expected": expected.astype(np.float32), "shape": np.array([1, 1])}
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "height", "width", 3])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1])
    return save_graph(path, nodes, constants=constants, image=image, output=output)


def test_photographs_decode_to_the_pixels_of_the_python_package(
    harness_eval: Evaluator, photographs: Path, tmp_path: Path
) -> None:
    files = sorted(photographs.rglob("*.jpg"))[::100]
    assert len(files) > 10
    for file in files:
        model = comparing_graph(tmp_path / "compare.onnx", pixels_of(file))
        run = harness_eval("classify", "--quiet", "--model", model, file)
        assert (run.code, run.lines[0]["probability"]) == (0, 0), file


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment graph of a small network, exported by the harness."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    network = Classifier(backbone, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), class_names=NAMES).eval()
    samples = {"noise": torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8)}
    path = tmp_path_factory.mktemp("deployed") / "deploy.onnx"
    export_deploy(network, path, resolution=32, samples=samples)
    return path


def test_probabilities_equal_those_of_the_runtime_in_python(harness_eval: Evaluator, deployed: Path, cpp_fixtures: Path) -> None:
    images = cpp_fixtures / "images"
    files = [images / name for name in ("rgb_420.jpg", "exif_6.jpg", "cmyk.jpg", "grey_16.png", "rgba_8_interlaced.png")]
    run = harness_eval("classify", "--quiet", "--model", deployed, *files)
    assert run.code == 0, run.err
    session = onnxruntime.InferenceSession(deployed, providers=["CPUExecutionProvider"])
    for file, line in zip(files, run.lines, strict=True):
        expected = session.run(None, {session.get_inputs()[0].name: pixels_of(file)})[0][0]
        assert line["file"] == str(file)
        assert line["class"] == NAMES[expected.argmax()]
        assert line["index"] == expected.argmax()
        assert line["probability"] == pytest.approx(expected.max(), abs=1e-6)
        assert [line["probabilities"][name] for name in NAMES] == pytest.approx(expected.tolist(), abs=1e-6)
        assert list(line["probabilities"].values()) == sorted(line["probabilities"].values(), reverse=True)


def test_a_folder_with_a_broken_image_gives_all_the_others_and_exit_code_2(
    harness_eval: Evaluator, deployed: Path, cpp_fixtures: Path
) -> None:
    index = json.loads((cpp_fixtures / "images" / "index.json").read_text())
    broken = json.loads((cpp_fixtures / "images" / "broken.json").read_text())
    run = harness_eval("classify", "--model", deployed, cpp_fixtures / "images")
    assert run.code == 2
    found = {Path(line["file"]).name: line for line in run.lines}
    assert {name for name, line in found.items() if "class" in line} == set(index)
    assert {name for name, line in found.items() if "error" in line} == set(broken)
    assert len(run.err.splitlines()) == 1  # progress only


def test_a_truncated_photograph_is_named_with_its_reason(
    harness_eval: Evaluator, deployed: Path, photographs: Path, tmp_path: Path
) -> None:
    whole = next(photographs.rglob("*.jpg"))
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:5000])
    run = harness_eval("classify", "--quiet", "--model", deployed, cut, whole)
    assert run.lines[0] == {"file": str(cut), "error": "damaged JPEG: the file is truncated"}
    assert "class" in run.lines[1]
    assert run.code == 2


@pytest.mark.parametrize("model", ["missing.onnx", "truncated.onnx", "flatten.onnx"])
def test_a_model_that_is_no_deployment_graph_is_exit_code_2(harness_eval: Evaluator, cpp_fixtures: Path, model: str) -> None:
    run = harness_eval("classify", "--quiet", "--model", cpp_fixtures / "models" / model, cpp_fixtures / "images" / "red.png")
    assert (run.code, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize("top", ["-1", "1.5", "nan", "1000001"])
def test_an_impossible_number_of_classes_is_exit_code_2(harness_eval: Evaluator, top: str) -> None:
    run = harness_eval("classify", "--model", "m.onnx", "x.png", f"--top={top}")
    assert (run.code, run.err) == (2, f"harness_eval: --top: expected a whole number from 0 to 1000000, got {top}\n")


def test_what_is_no_regular_file_is_one_line_at_once_named_or_found(
    harness_eval: Evaluator, deployed: Path, cpp_fixtures: Path, tmp_path: Path
) -> None:
    shutil.copy(cpp_fixtures / "images" / "red.png", tmp_path / "red.jfif")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    expected = {"pipe.png": "expected a regular file, got a FIFO", "zero.jpg": "expected a regular file, got a device"}
    for given in ([tmp_path], [tmp_path / name for name in (*expected, "red.jfif")]):
        run = harness_eval("classify", "--quiet", "--model", deployed, *given)
        assert run.code == 2
        found = {Path(line["file"]).name: line for line in run.lines}
        assert {name: line["error"] for name, line in found.items() if "error" in line} == expected
        assert "class" in found["red.jfif"]
    for name, message in expected.items():
        with pytest.raises(DataError, match=message):
            read_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_image_a_row_larger_than_the_limit_is_refused_in_the_same_words(
    harness_eval: Evaluator, deployed: Path, tmp_path: Path
) -> None:
    height = MAX_PIXELS // 8192 + 1
    Image.new("1", (8192, height)).save(tmp_path / "large.png", compress_level=1)
    message = f"expected at most {MAX_PIXELS} pixels, got 8192 x {height}"
    (line,) = harness_eval("classify", "--quiet", "--model", deployed, tmp_path / "large.png").lines
    assert line["error"] == message
    with pytest.raises(DataError, match=message):
        read_image(tmp_path / "large.png")
