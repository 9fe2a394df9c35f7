"""What an ONNX file is: its content, its images, its outputs; each form gives the network's logits, or one line."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from harness.errors import ModelError
from harness.export.files import stamp
from harness.export.metadata import metadata_of
from harness.models.adapter import Adapter
from harness.models.classifier import Classifier
from harness.models.finished import finished_classifier
from harness.onnxfile.architecture import OnnxFile
from harness.onnxfile.content import content_sha256, external_files, precision_of, structure
from harness.storage.store import sha256_of_file
from tests.finished import DIGITS
from tests.onnxfile.conftest import Files
from tests.onnxfile.files import SIZE, save_onnx


def built(path: Path | str, names: tuple[str, ...] = DIGITS, **adapter: Any) -> Classifier:
    return finished_classifier(OnnxFile(weights=str(path)), Adapter.model_validate(adapter), names, resolution=SIZE)


def logits(files: Files, n: int = 6) -> Tensor:
    return files.network((files.x[:n] - 0.5) / 0.5)


@pytest.mark.parametrize(
    ("form", "adapter"),
    [
        ({}, {}),
        ({"batch": 4, "name": "pixel values"}, {}),
        ({"batch": 1}, {}),
        ({"channels_last": True}, {}),
        ({"channels_last": True, "batch": 4, "name": "x:0"}, {}),
        ({"also": "features"}, {"output": 0}),
        ({"also": "features"}, {"output": "Gemm10"}),
        ({"external": True}, {}),
    ],
)
def test_every_form_gives_the_logits_of_the_network(
    form: dict[str, Any], adapter: dict[str, Any], files: Files, tmp_path: Path
) -> None:
    path = save_onnx(tmp_path / "net.onnx", files.network, **form)
    assert torch.allclose(built(path, **adapter)(files.x[:6]), logits(files), atol=1e-4)


def test_whole_numbers_are_rounded_pixels(files: Files, tmp_path: Path) -> None:
    model = built(save_onnx(tmp_path / "net.onnx", files.network, whole=True, channels_last=True))
    rounded = (files.x[:6] * 255).round() / 255
    assert torch.allclose(model(files.x[:6]), files.network((rounded - 0.5) / 0.5), atol=1e-4)
    assert torch.allclose(model(rounded + 0.4 / 255), model(rounded), atol=0)


def test_classes_and_ranges_are_those_of_the_adapter(files: Files) -> None:
    names = DIGITS[::-1]
    assert torch.allclose(built(files.net_onnx, names, classes=DIGITS)(files.x[:6]), logits(files).flip(1), atol=1e-4)
    shifted = built(files.net_onnx, input={"range": [-1, 1]})(files.x[:6])
    assert torch.allclose(shifted, files.network((2 * files.x[:6] - 1 - 0.5) / 0.5), atol=1e-3)


@pytest.mark.parametrize(
    ("form", "names", "message"),
    [
        ({}, DIGITS[:7], "expected logits of shape .2, 7.* got a tensor of shape .2, 10.; `classes:` names the 10 classes"),
        ({"also": "features"}, DIGITS, "got a mapping with 'Gemm10', 'features'; `output: Gemm10` takes one of them"),
        (
            {"custom": True},
            DIGITS,
            r"net\.onnx: expected operators that ONNX Runtime knows, got the custom operator com\.example\.Secret",
        ),
    ],
)
def test_file_that_does_not_fit_is_one_line(
    form: Any, names: tuple[str, ...], message: str, files: Files, tmp_path: Path
) -> None:
    path = save_onnx(tmp_path / "net.onnx", files.network, **form)
    with pytest.raises(ModelError, match=message) as refused:
        built(path, names)
    assert "\n" not in str(refused.value)


def test_images_of_another_size_and_files_that_hold_no_network_are_one_line(files: Files, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"expected images of 16 x 16 pixels, got 32 x 32; `dataset.resolution: 16` gives it such"
    ):
        finished_classifier(OnnxFile(weights=files.net_onnx), Adapter(), DIGITS, resolution=32)
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("text.onnx", "empty.onnx"):
        with pytest.raises(ModelError, match=rf"{name}: expected a readable ONNX model"):
            built(tmp_path / name)
    with pytest.raises(ModelError, match=r"onnx: expected an ONNX file at .*none\.onnx, found none"):
        built(tmp_path / "none.onnx")


@pytest.mark.parametrize("place", ["../weights", "folder/../../weights", "/weights"])
def test_external_data_outside_of_the_folder_are_not_read(files: Files, tmp_path: Path, place: str) -> None:
    (folder := tmp_path / "model").mkdir()
    path = save_onnx(folder / "net.onnx", files.network, external=True)
    location = str(tmp_path) + place if place.startswith("/") else place
    (folder / "net.onnx.data").rename(tmp_path / "weights")
    model = structure(path)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"net\.onnx: expected its external data beside it, got them in '"):  # a long path is cut
        content_sha256(path)


def test_hash_covers_external_data(files: Files, tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "net.onnx", files.network, external=True)
    before, data = content_sha256(path), tmp_path / "net.onnx.data"
    assert external_files(path) == ("net.onnx.data",)
    own = sha256_of_file(path)
    values = bytearray(data.read_bytes())
    values[:4] = np.float32(0.25).tobytes()
    data.write_bytes(values)
    assert sha256_of_file(path) == own
    assert content_sha256(path) != before
    data.unlink()
    with pytest.raises(ModelError, match=r"net\.onnx: expected its external data in 'net\.onnx\.data' beside it, found none"):
        content_sha256(path)
    assert content_sha256(Path(files.net_onnx)) == sha256_of_file(Path(files.net_onnx))


def test_number_formats_are_told_apart(files: Files, tmp_path: Path) -> None:
    assert precision_of(structure(Path(files.net_onnx))) == "float32"
    assert precision_of(structure(Path(files.int8_onnx))) == "int8"
    model = onnx.load(files.net_onnx)
    model.graph.initializer[2].CopyFrom(onnx.numpy_helper.from_array(np.zeros(3, np.float16), "half"))
    assert precision_of(model) == "float16"


def test_own_deployment_graph_gives_logits_and_names_its_classes(files: Files, tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "net.onnx", files.network, whole=True, channels_last=True)
    model = onnx.load(path)
    model.graph.node.append(onnx.helper.make_node("Softmax", [model.graph.output[0].name], ["probabilities"], axis=1))
    model.graph.output[0].name = "probabilities"
    onnx.save(model, path)
    classifier = Classifier(files.network, mean=(0.5,) * 3, std=(0.5,) * 3, class_names=DIGITS[::-1])
    stamp(path, metadata_of(classifier, kind="deploy", resolution=SIZE, resize="squash").to_props())
    found = built(path)((files.x[:6] * 255).round() / 255)
    wanted = files.network(((files.x[:6] * 255).round() / 255 - 0.5) / 0.5)
    assert torch.allclose(found, wanted.log_softmax(1), atol=1e-3)


def test_model_is_pickled_without_its_session_and_copies_share_it(files: Files) -> None:
    model = built(files.net_onnx)
    wanted = model(files.x[:2])
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes
    assert torch.equal(again(files.x[:2]), wanted)


@pytest.mark.parametrize("operator", ["QGemm", "MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QLinearAdd"])
def test_operators_of_onnx_runtime_on_whole_numbers_make_a_file_of_whole_numbers(operator: str) -> None:
    node = onnx.helper.make_node(operator, ["x"], ["y"], domain="com.microsoft")
    assert precision_of(onnx.helper.make_model(onnx.helper.make_graph([node], "net", [], []))) == "int8"
