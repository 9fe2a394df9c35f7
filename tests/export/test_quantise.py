import numpy as np
import pytest

from harness.errors import ModelError
from harness.export.quantise import convert_fp16, quantise_int8
from harness.export.runtime import OnnxModel

from .conftest import images


class Photos:
    """A split of smooth images that notes what is read."""

    def __init__(self, n):
        self.labels, self.ids, self.hashes = np.zeros(n, np.int64), ["id"] * n, ["hash"] * n
        self.images, self.reads = images(n), []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.reads.append(index)
        return self.images[index], 0


def agreement(path, model_file):
    x = images(60, seed=3)
    found, expected = OnnxModel(path).logits(x), OnnxModel(model_file).logits(x)
    return float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()), float(np.abs(found - expected).max())


@pytest.mark.parametrize("weight_bits", [8, 7])
def test_int8_file_runs_and_mostly_agrees(weight_bits, tmp_path, model_file):
    path = tmp_path / "int8.onnx"
    quantise_int8(model_file, path, images=Photos(50), weight_bits=weight_bits)
    share, difference = agreement(path, model_file)
    assert share > 0.9
    assert difference > 0
    assert OnnxModel(path).metadata == OnnxModel(model_file).metadata.model_copy(update={"precision": "int8"})
    assert list(tmp_path.iterdir()) == [path]


def test_fp16_file_runs_takes_half_and_agrees(tmp_path, model_file):
    path = tmp_path / "fp16.onnx"
    convert_fp16(model_file, path)
    share, difference = agreement(path, model_file)
    assert share > 0.95
    assert 0 < difference < 0.1
    assert OnnxModel(path).metadata.precision == "float16"


def test_calibration_sees_every_image_and_prints_nothing(tmp_path, model_file, capsys):
    photos = Photos(40)
    quantise_int8(model_file, tmp_path / "int8.onnx", images=photos)
    assert set(photos.reads) == set(range(40))
    assert capsys.readouterr().out == ""


def test_calibration_without_images_is_an_error(tmp_path, model_file):
    with pytest.raises(ModelError, match="expected training images to calibrate on, got none"):
        quantise_int8(model_file, tmp_path / "int8.onnx", images=Photos(0))
    assert list(tmp_path.iterdir()) == []


def test_only_a_float_model_is_converted(tmp_path, model_file, deploy_file):
    half = tmp_path / "fp16.onnx"
    convert_fp16(model_file, half)
    with pytest.raises(ModelError, match=r"got float16 weights"):
        quantise_int8(half, tmp_path / "int8.onnx", images=Photos(2))
    with pytest.raises(ModelError, match=r"got a deployment graph"):
        convert_fp16(deploy_file, tmp_path / "deploy16.onnx")
