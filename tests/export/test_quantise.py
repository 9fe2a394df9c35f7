from contextlib import nullcontext

import numpy as np
import pytest
import torch

from harness.errors import ModelError
from harness.export.onnx import export_model
from harness.export.parity import Tolerance, measure
from harness.export.quantise import _require_predictions, convert_fp16, quantise_int8
from harness.export.runtime import OnnxModel

from .conftest import SIDE, images, small_classifier

SAMPLES = {"clean": images(12, seed=5), "noisy": (images(12, seed=5) + 0.05 * torch.rand(12, 3, SIDE, SIDE)).clamp(0, 1)}


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
    quantise_int8(model_file, path, images=Photos(50), samples=SAMPLES, weight_bits=weight_bits)
    share, difference = agreement(path, model_file)
    assert share > 0.9
    assert difference > 0
    assert OnnxModel(path).metadata == OnnxModel(model_file).metadata.model_copy(update={"precision": "int8"})
    assert list(tmp_path.iterdir()) == [path]


def test_fp16_file_runs_takes_half_and_agrees(tmp_path, model_file):
    path = tmp_path / "fp16.onnx"
    parities = convert_fp16(model_file, path, samples=SAMPLES)
    share, difference = agreement(path, model_file)
    assert share > 0.95
    assert 0 < difference < 0.1
    assert OnnxModel(path).metadata.precision == "float16"
    assert {name: parity.flips for name, parity in parities.items()} == {"clean": 0, "noisy": 0}


def with_one_loud_channel(path, *, factor):
    """A file of a network with one channel that cancels out, and beside which eight bits keep nothing of the others."""
    classifier = small_classifier()
    with torch.no_grad():
        classifier.backbone[3].weight[0] *= factor
        classifier.backbone[-1].weight[:, :4] = 0  # the pooled values of that channel
        classifier.backbone[-1].bias.zero_()
    export_model(classifier, path, resolution=SIDE, samples=SAMPLES)
    return path


def test_int8_file_that_predicts_one_class_for_everything_gets_no_name(tmp_path):
    source = with_one_loud_channel(tmp_path / "loud.onnx", factor=1e6)
    with pytest.raises(ModelError, match=r"int8\.onnx, clean: expected predictions as various .*, got one class for all images"):
        quantise_int8(source, tmp_path / "int8.onnx", images=Photos(20), samples=SAMPLES)
    assert list(tmp_path.iterdir()) == [source]


def test_fp16_file_that_overflows_gets_no_name(tmp_path):
    source = with_one_loud_channel(tmp_path / "loud.onnx", factor=1e6)
    with pytest.raises(ModelError, match=r"fp16\.onnx, clean: expected finite logits in float16, got NaN or infinity"):
        convert_fp16(source, tmp_path / "fp16.onnx", samples=SAMPLES)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("kept", [3, 4])
def test_int8_file_keeps_half_of_the_predictions(kept):
    reference, found = (
        np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 0, 1]],
        np.eye(3, dtype=np.float32)[[1, 2, 0, 1, 2, 0, 1, 2]],
    )
    found[:kept] = reference[:kept]
    with nullcontext() if kept == 4 else pytest.raises(ModelError, match=r"expected at least 50% .*, got 3 of 8"):
        _require_predictions(measure(reference, found, Tolerance()), reference, found, "int8.onnx, clean")


def test_calibration_sees_every_image_and_prints_nothing(tmp_path, model_file, capsys):
    photos = Photos(40)
    quantise_int8(model_file, tmp_path / "int8.onnx", images=photos, samples=SAMPLES)
    assert set(photos.reads) == set(range(40))
    assert capsys.readouterr().out == ""


def switching_a_class_off(path):
    classifier = small_classifier()
    with torch.no_grad():
        classifier.backbone[-1].bias[2] = -float("inf")
    export_model(classifier, path, resolution=SIDE, samples=SAMPLES)
    return path


def test_classes_that_are_switched_off_are_exported_and_stay_off_in_16_bits(tmp_path):
    source = switching_a_class_off(tmp_path / "off.onnx")
    convert_fp16(source, tmp_path / "fp16.onnx", samples=SAMPLES)
    assert np.isneginf(OnnxModel(tmp_path / "fp16.onnx").logits(SAMPLES["clean"])[:, 2]).all()


def test_infinite_logits_have_no_8_bit_form_and_are_refused_in_one_line(tmp_path):
    source = switching_a_class_off(tmp_path / "off.onnx")
    with pytest.raises(ModelError, match=r"off\.onnx: expected finite logits, as 8-bit numbers have a range, got NaN or inf"):
        quantise_int8(source, tmp_path / "int8.onnx", images=Photos(20), samples=SAMPLES)
    assert list(tmp_path.iterdir()) == [source]


def test_large_logits_are_no_hindrance(tmp_path):
    classifier = small_classifier()
    with torch.no_grad():
        classifier.backbone[-1].weight *= 1000
        classifier.backbone[-1].bias *= 1000
    parity = export_model(classifier, tmp_path / "large.onnx", resolution=SIDE, samples=SAMPLES)["clean"]
    assert parity.p99_relative < 1e-5
    assert convert_fp16(tmp_path / "large.onnx", tmp_path / "fp16.onnx", samples=SAMPLES)["clean"].p99_difference > 1e-2


def test_calibration_without_images_is_an_error(tmp_path, model_file):
    with pytest.raises(ModelError, match="expected training images to calibrate on, got none"):
        quantise_int8(model_file, tmp_path / "int8.onnx", images=Photos(0), samples=SAMPLES)
    assert list(tmp_path.iterdir()) == []


def test_only_a_float_model_is_converted(tmp_path, model_file, deploy_file):
    half = tmp_path / "fp16.onnx"
    convert_fp16(model_file, half, samples=SAMPLES)
    with pytest.raises(ModelError, match=r"got float16 weights"):
        quantise_int8(half, tmp_path / "int8.onnx", images=Photos(2), samples=SAMPLES)
    with pytest.raises(ModelError, match=r"got a deployment graph"):
        convert_fp16(deploy_file, tmp_path / "deploy16.onnx", samples=SAMPLES)
