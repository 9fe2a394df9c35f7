"""The gradient of an ONNX file: of a twin that is one, of its graph in PyTorch, or none, with the reason."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from harness.errors import ModelError
from harness.models.adapter import Adapter
from harness.models.base import MODELS
from harness.models.classifier import Classifier
from harness.models.finished import finished_classifier
from harness.models.reference import ReferenceClassifier
from harness.onnxfile.architecture import OnnxFile
from harness.onnxfile.content import Precision
from harness.onnxfile.conversion import converted
from harness.onnxfile.gradient import Gradient, gradient_of
from harness.onnxfile.session import Session
from harness.onnxfile.twin import Twin
from tests.finished import DIGITS, FACTORY
from tests.onnxfile.conftest import Files
from tests.onnxfile.files import SIZE, save_onnx


def reference_of(path: Path | str, **adapter: Any) -> Classifier:
    return finished_classifier(OnnxFile(weights=str(path)), Adapter.model_validate(adapter), DIGITS, resolution=SIZE)


def twin_in(path: str) -> Twin:
    return Twin("the twin", MODELS.parse({**FACTORY, "weights": path}), Adapter())


def chosen(reference: Classifier, x: Tensor | None, *, twin: Twin | None = None, precision: Precision = "float32") -> Gradient:
    return gradient_of(reference, twin, DIGITS, x, precision=precision, resolution=SIZE)


def around(reference: Classifier, gradient: Gradient) -> ReferenceClassifier:
    return gradient.around(reference, DIGITS, resolution=SIZE)


def gradient_at(model: nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, 3].sum(), leaf)[0]


@pytest.mark.parametrize("form", [{}, {"batch": 4}, {"channels_last": True}])
def test_graph_has_the_gradient_of_the_network_it_was_made_from(form: dict[str, Any], files: Files, tmp_path: Path) -> None:
    reference = reference_of(save_onnx(tmp_path / "net.onnx", files.network, **form))
    gradient = chosen(reference, files.x[:8])
    assert gradient.source == "graph"
    x = files.x[:6]
    own = gradient_at(nn.Sequential(_Normalised(), files.network), x)
    assert torch.allclose(gradient_at(around(reference, gradient), x), own, atol=1e-4)


class _Normalised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.5


def test_eight_bit_graph_has_straight_through_gradients_and_the_runtimes_logits(files: Files) -> None:
    reference = reference_of(files.int8_onnx)
    gradient = chosen(reference, files.x[:8], precision="int8")
    assert gradient.source == "graph"
    model, x = around(reference, gradient), files.x[:6]
    assert torch.equal(model(x.clone().requires_grad_()).detach(), reference(x))
    found, own = gradient_at(model, x), gradient_at(nn.Sequential(_Normalised(), files.network), x)
    assert torch.nn.functional.cosine_similarity(found.flatten(1), own.flatten(1)).min() > 0.9


def test_values_are_the_runtimes_and_the_gradient_is_the_twins(files: Files) -> None:
    reference = reference_of(files.int8_onnx)
    gradient = chosen(reference, files.x[:8], twin=twin_in(files.net_pth), precision="int8")
    model, x = around(reference, gradient), files.x[:4]
    assert torch.equal(model(x), reference(x))
    assert torch.equal(gradient_at(model, x), gradient_at(twin_in(files.net_pth).built(DIGITS, resolution=SIZE), x))


@pytest.mark.parametrize("file", ["net_onnx", "int8_onnx"])
def test_twin_that_is_another_network_is_refused(file: str, files: Files) -> None:
    precision: Precision = "int8" if file == "int8_onnx" else "float32"
    with pytest.raises(ModelError, match=r"twin: expected the network that the file was made from, got another one in the twin"):
        chosen(reference_of(getattr(files, file)), files.x[:8], twin=twin_in(files.other_pth), precision=precision)


def test_twin_is_compared_without_images_too(files: Files) -> None:
    reference = reference_of(files.net_onnx)
    assert chosen(reference, None, twin=twin_in(files.net_pth)).source == "twin"
    with pytest.raises(ModelError, match="got another one"):
        chosen(reference, None, twin=twin_in(files.other_pth))


def test_graph_that_converts_to_something_else_has_no_gradient(
    files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reference = reference_of(files.net_onnx)
    other = converted(Session(save_onnx(tmp_path / "flipped.onnx", files.network, flip=True)))
    monkeypatch.setattr("harness.onnxfile.conversion.converted", lambda session: other)
    gradient = chosen(reference, files.x[:8])
    assert (gradient.source, gradient.obstacle) == ("none", "its graph in PyTorch gives logits that differ by 200% of their size")


def test_graph_with_an_operator_without_converter_has_no_gradient(files: Files, tmp_path: Path) -> None:
    path = _behind(files, tmp_path, helper.make_node("Trilu", ["logits"], ["cut"]))
    gradient = chosen(reference_of(path), files.x[:8])
    assert gradient.source == "none"
    assert gradient.obstacle.startswith("onnx2torch does not convert its graph (NotImplementedError: ")
    model = around(reference_of(path), gradient)
    assert not model(files.x[:2].clone().requires_grad_()).requires_grad


def test_graph_without_slopes_has_no_gradient(files: Files, tmp_path: Path) -> None:
    gradient = chosen(reference_of(_behind(files, tmp_path, helper.make_node("Round", ["logits"], ["cut"]))), files.x[:8])
    assert gradient.obstacle == "the gradient of its graph in PyTorch is zero or not finite"


def _behind(files: Files, folder: Path, node: onnx.NodeProto) -> Path:
    """Writes the network with an operator behind its logits."""
    model = onnx.load(files.net_onnx)
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(node)
    model.graph.output[0].name = node.output[0]
    onnx.save(model, folder / "behind.onnx")
    return folder / "behind.onnx"


OPERATORS = {
    "ReduceMean": ({"keepdims": 1}, ["axes"], 18),
    "ReduceMax": ({"keepdims": 1}, ["axes"], 20),
    "ReduceL2": ({"keepdims": 1}, ["axes"], 18),
    "Cast": ({"to": TensorProto.FLOAT}, [], 19),
    "Reshape": ({"allowzero": 1}, ["shape"], 19),
    "Identity": ({}, [], 19),
}


@pytest.mark.parametrize("opset", [18, 20, 21, 23])
@pytest.mark.parametrize("operator", list(OPERATORS))
def test_operators_of_newer_opsets_are_converted(operator: str, opset: int, tmp_path: Path) -> None:
    attributes, inputs, _ = OPERATORS[operator]
    arrays = {"axes": np.array([2, 3]), "shape": np.array([-1, 3, 1, SIZE * SIZE])}
    nodes = [
        helper.make_node(operator, ["images", *inputs], ["wide"], **attributes),
        helper.make_node("ReduceMean", ["wide", "axes"], ["out"], keepdims=0),
    ]
    initializers = [numpy_helper.from_array(value, key) for key, value in arrays.items()]
    _expect_converted(nodes, initializers, opset, tmp_path)


@pytest.mark.parametrize("opset", [13, 19, 21, 23])
@pytest.mark.parametrize("kind", ["uint8", "int8", "int16"])
def test_quantisation_is_converted_with_straight_through_gradients(kind: str, opset: int, tmp_path: Path) -> None:
    if kind == "int16" and opset < 21:
        pytest.skip("int16 came with opset 21")
    zero = np.array([3, 0, 5], dtype=kind)
    scale = np.array([0.01, 0.02, 0.005], dtype=np.float32)
    arrays = {"scale": scale, "zero": zero, "axes": np.array([2, 3])}
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["steps"], axis=1),
        helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["wide"], axis=1),
        helper.make_node("ReduceMean", ["wide", *(["axes"] if opset >= 18 else [])], ["out"], keepdims=0)
        if opset >= 18
        else helper.make_node("ReduceMean", ["wide"], ["out"], keepdims=0, axes=[2, 3]),
    ]
    network = _expect_converted(nodes, [numpy_helper.from_array(value, key) for key, value in arrays.items()], opset, tmp_path)
    x = torch.full((1, 3, SIZE, SIZE), 0.113).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).sum(), x)
    assert torch.allclose(gradient, torch.full_like(gradient, 1 / SIZE**2))
    far = torch.full((1, 3, SIZE, SIZE), 5000.0).requires_grad_()
    assert not torch.autograd.grad(network(far).sum(), far)[0].any()


def _expect_converted(nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto], opset: int, folder: Path) -> nn.Module:
    """Writes a graph, converts it, compares both on images, and returns the conversion."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), folder / "one.onnx")
    session = Session(folder / "one.onnx")
    network, x = converted(session), torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    wanted = session.run(x.numpy(), session.images())[0]
    found = network(x)
    assert isinstance(found, Tensor)
    assert np.allclose(found.numpy(), wanted, atol=1e-5)
    return network


def test_log_says_where_the_gradient_comes_from(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    from harness.steps.base import DataIdentity
    from harness.steps.given import Given

    caplog.set_level(logging.INFO, "harness")
    step = Given.planned(
        "mine",
        OnnxFile(weights=files.net_onnx),
        Adapter(),
        DataIdentity({}, ""),
        resolution=SIZE,
        class_names=DIGITS,
        images=files.x[:4],
    )
    assert "mine: the gradient of its graph, converted to PyTorch" in caplog.text
    assert step.judged_file["gradient"] == "the gradient of its graph, converted to PyTorch"
