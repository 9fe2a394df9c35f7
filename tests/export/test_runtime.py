import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from harness.errors import ModelError
from harness.export.runtime import OnnxModel

from .conftest import SIDE, images, pixels


def foreign(path, *, shape=(4, 3, 8, 8), kind=TensorProto.FLOAT, outputs=2, classes=192):
    """A user's own file: flattens the image, and knows nothing of the harness."""
    nodes = [helper.make_node("Flatten", ["x"], ["y0"])] + [
        helper.make_node("Identity", ["y0"], [f"y{k}"]) for k in range(1, outputs)
    ]
    results = [helper.make_tensor_value_info(f"y{k}", kind, [shape[0], classes]) for k in range(outputs)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, shape)], results)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_file_of_fixed_batch_size_scores_any_number_of_images(tmp_path):
    model = OnnxModel(foreign(tmp_path / "m.onnx", outputs=1))
    x = torch.rand(10, 3, 8, 8)
    assert np.array_equal(model.logits(x), x.flatten(1).numpy())
    assert (model.metadata, model.num_classes, model.resolution) == (None, 192, 8)


def test_no_images_give_no_logits(model_file):
    assert OnnxModel(model_file).logits(images(0)).shape == (0, 3)


def test_threads_do_not_change_the_result(model_file):
    one, two = (OnnxModel(model_file, threads=threads).logits(images(4)) for threads in (1, 2))
    assert np.allclose(one, two, atol=1e-5)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: expected an ONNX file, found none"):
        OnnxModel(tmp_path / "none.onnx")


@pytest.mark.parametrize("kept", [0, 10, 500, -200])
def test_truncated_file_is_an_error(kept, tmp_path, model_file):
    path = tmp_path / "cut.onnx"
    path.write_bytes(model_file.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"cut\.onnx: expected"):
        OnnxModel(path)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"outputs": 2}, "expected one input and one output, got 1 and 2"),
        ({"outputs": 1, "shape": (1, 1, 8, 8), "classes": 64}, r"3 channels, got tensor\(float\) \(1, 1, 8, 8\)"),
        ({"outputs": 1, "kind": TensorProto.DOUBLE}, r"3 channels, got tensor\(double\)"),
        ({"outputs": 1, "classes": "classes", "shape": (1, 3, "h", 8)}, "expected a fixed number of classes"),
    ],
)
def test_file_of_another_form_is_explained(form, message, tmp_path):
    with pytest.raises(ModelError, match=message):
        OnnxModel(foreign(tmp_path / "m.onnx", **form))


def test_class_count_that_differs_is_an_error(model_file):
    assert OnnxModel(model_file, num_classes=3).num_classes == 3
    with pytest.raises(ModelError, match=r"model\.onnx: expected 15 classes, got 3"):
        OnnxModel(model_file, num_classes=15)


def test_unknown_provider_is_an_error(model_file):
    with pytest.raises(ModelError, match=r"expected a provider of .*CPUExecutionProvider.*, got 'Abacus'"):
        OnnxModel(model_file, provider="Abacus")


@pytest.mark.parametrize(
    "x",
    [images(2)[:, :2], images(2)[:, :, :-1], images(2)[0], images(2).double(), pixels(1, SIDE, SIDE)],
    ids=lambda x: str(x.shape),
)
def test_images_that_do_not_fit_the_file_are_an_error(x, model_file):
    with pytest.raises(ModelError, match=r"expected images of float32 \(batch, 3, 32, 32\), got "):
        OnnxModel(model_file).logits(x)
