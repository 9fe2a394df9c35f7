"""The pixels of the INT8 files of the harness: black and white are in their range, whatever the training images are."""

from itertools import product

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import interpolate

from harness.export.input_range import InputRange, box_ranges
from harness.export.onnx import export_model
from harness.export.quantise import quantise_int8
from harness.export.runtime import OnnxModel
from harness.models.adapted import luminance
from harness.models.classifier import Classifier

from .conftest import CLASS_NAMES, SIDE, images
from .test_quantise import Photos

WHITE, BLACK = np.ones((1, 3, SIDE, SIDE), np.float32), np.zeros((1, 3, SIDE, SIDE), np.float32)


@pytest.mark.parametrize("weight_bits", [7, 8])
def test_black_and_white_are_in_the_range_of_an_export_that_saw_neither(weight_bits, tmp_path, model_file):
    photos = Photos(20)
    photos.images = 0.4 + 0.2 * photos.images
    path = tmp_path / "int8.onnx"
    quantise_int8(model_file, path, images=photos, samples={"clean": photos.images}, weight_bits=weight_bits)
    constants = {it.name: numpy_helper.to_array(it) for it in onnx.load(path).graph.initializer}
    scale, zero = constants["div_scale"], int(constants["div_zero_point"])
    low, high = box_ranges(model_file, shape=(3, SIDE, SIDE))["div"]
    assert -zero * scale <= low < high <= (255 - zero) * scale
    assert scale < (high - low) / 250
    assert InputRange(path).clipped_share([BLACK, WHITE, images(5).numpy()]) == 0


class Head(nn.Module):
    """A function before the network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def batch_norm():
    layer = nn.BatchNorm2d(3)
    layer.running_mean[:], layer.running_var[:] = torch.tensor([0.5, -0.5, 0.1]), torch.tensor([2.0, 0.5, 1.0])
    layer.weight.data, layer.bias.data = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.1, -0.2, 0.3])
    return layer


@pytest.mark.parametrize(
    ("head", "channels"),
    [
        ([batch_norm(), nn.MaxPool2d(2)], 3),
        ([batch_norm(), Head(lambda x: luminance(x) * 255)], 1),
        ([Head(lambda x: interpolate(x.flip(1), (16, 16), mode="bilinear", antialias=True))], 3),
        ([Head(lambda x: x.mean(1, keepdim=True).repeat(1, 3, 1, 1))], 3),
    ],
    ids=["own normalisation and pool", "luminance in grey levels", "channel order and resize", "mean of the channels"],
)
def test_whatever_stands_before_the_network_is_in_its_range(head, channels, tmp_path):
    torch.manual_seed(0)
    tail = [nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)]
    network = Classifier(nn.Sequential(*head, *tail), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), class_names=CLASS_NAMES).eval()
    front = nn.Sequential(*head)
    photos, extremes = Photos(20), torch.tensor(list(product((0.0, 1.0), repeat=3)))[:, :, None, None].expand(8, 3, SIDE, SIDE)
    photos.images = 0.4 + 0.2 * photos.images
    export_model(network, tmp_path / "m.onnx", resolution=SIDE, samples={"clean": images(8)})
    quantise_int8(tmp_path / "m.onnx", tmp_path / "q.onnx", images=photos, samples={"clean": photos.images})
    found = InputRange(tmp_path / "q.onnx")
    assert found.is_known
    assert found.clipped_share([extremes.numpy()]) == 0
    low, high = list(box_ranges(tmp_path / "m.onnx", shape=(3, SIDE, SIDE)).values())[-1]
    taken = front((extremes - network.mean) / network.std)  # every mixture of full and empty channels
    assert (low, high) == pytest.approx((taken.min().item(), taken.max().item()), rel=1e-5)


def least_squares(x, y):
    """A linear network of 10 classes, fitted at once to normalised images."""
    flat = nn.functional.pad((x - 0.5).flatten(1) / 0.5, (0, 1), value=1.0).double()
    weights = torch.linalg.solve(flat.T @ flat + 3 * torch.eye(flat.shape[1]), flat.T @ torch.eye(10)[y].double()).float()
    layer = nn.Linear(flat.shape[1] - 1, 10)
    layer.weight.data, layer.bias.data = 10 * weights[:-1].T.contiguous(), 10 * weights[-1]
    return Classifier(nn.Sequential(nn.Flatten(), layer), mean=(0.5,) * 3, std=(0.5,) * 3, class_names=[*"0123456789"]).eval()


def signed_gradient(network, x, y, eps):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(network(x), y, reduction="sum"), x)
    return (x + eps * gradient.sign()).detach().clamp(0, 1)


def test_int8_of_images_without_black_and_white_keeps_no_more_under_attack_than_float(tmp_path, monkeypatch):
    digits = load_digits()
    x = (0.1 + 0.8 * torch.tensor(digits.images, dtype=torch.float32) / 16)[:, None].repeat(1, 3, 1, 1)
    y = torch.tensor(digits.target)
    network, photos = least_squares(x[:1200], y[:1200]), Photos(128)
    photos.images = x[:128]
    export_model(network, tmp_path / "float.onnx", resolution=8, samples={"clean": x[:8]})
    clean, labels = x[1200:].numpy(), y[1200:].numpy()
    attacked = signed_gradient(network, x[1200:], y[1200:], 0.06).numpy()
    real = OnnxModel(tmp_path / "float.onnx")

    def measured(name):
        """Accuracy under attack, the root mean square of the differences of clean logits, and the clipped share."""
        quantise_int8(tmp_path / "float.onnx", tmp_path / name, images=photos, samples={"clean": x[:40]}, weight_bits=7)
        file = OnnxModel(tmp_path / name)
        noise = float(np.sqrt(np.square(file.logits(clean) - real.logits(clean)).mean()))
        kept = float((file.logits(attacked).argmax(axis=1) == labels).mean())
        return kept, noise, InputRange(tmp_path / name).clipped_share([attacked])

    kept, noise, share = measured("pinned.onnx")
    second, first = np.sort(real.logits(attacked), axis=1)[:, -2:].T
    # Rounding moves a logit by about as much as on clean images: it decides where the two largest are closer than twice that.
    tolerance = float((first - second < 2 * noise).mean())
    expected = float((real.logits(attacked).argmax(axis=1) == labels).mean())
    assert share == 0
    assert abs(kept - expected) <= tolerance
    monkeypatch.setattr("harness.export.quantise._pinned", lambda *_: {})
    narrow, _, share = measured("narrow.onnx")
    assert share > 0.1
    assert narrow > expected + 2 * tolerance
