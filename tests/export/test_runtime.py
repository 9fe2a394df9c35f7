import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from harness.errors import ModelError
from harness.export.files import stamp
from harness.export.runtime import OnnxModel

from .conftest import SIDE, images, pixels


def of_nodes(path, nodes, outputs, *, image=("n", 3, 8, 8)):
    """A file of these nodes; outputs by name with their shapes, None where it is not declared."""
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)], results)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


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
        ({"outputs": 1, "shape": (1, 1, 8, 8), "classes": 64}, r"3 channels, got tensor\(float\) \(1, 1, 8, 8\)"),
        ({"outputs": 1, "kind": TensorProto.DOUBLE}, r"3 channels, got tensor\(double\)"),
        ({"outputs": 1, "classes": "classes", "shape": (1, 3, "h", 8)}, "expected a fixed number of classes"),
    ],
)
def test_file_of_another_form_is_explained(form, message, tmp_path):
    with pytest.raises(ModelError, match=message):
        OnnxModel(foreign(tmp_path / "m.onnx", **form))


def test_of_several_outputs_the_first_with_the_classes_counts(tmp_path):
    nodes = [helper.make_node("Flatten", ["x"], ["y1"]), helper.make_node("ReduceMean", ["x"], ["y0"], axes=[2, 3], keepdims=0)]
    model = OnnxModel(of_nodes(tmp_path / "m.onnx", nodes, {"y0": ("n", 3), "y1": ("n", 192)}), num_classes=192)
    x = torch.rand(5, 3, 8, 8)
    assert np.array_equal(model.logits(x), x.flatten(1).numpy())
    assert OnnxModel(tmp_path / "m.onnx").num_classes == 3


def test_output_of_logits_comes_before_a_number(tmp_path):
    nodes = [helper.make_node("Flatten", ["x"], ["y"]), helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0)]
    model = OnnxModel(of_nodes(tmp_path / "m.onnx", nodes, {"mean": (), "y": ("n", 192)}), num_classes=192)
    assert model.logits(torch.rand(2, 3, 8, 8)).shape == (2, 192)


@pytest.mark.parametrize("outputs", [{"y": ("n", "k")}, {"y": None}])
def test_axes_left_open_fit_the_classes_that_are_expected(tmp_path, outputs):
    nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    path = of_nodes(tmp_path / "m.onnx", nodes, outputs, image=("n", "channels", "h", "w"))
    x = torch.rand(5, 3, 8, 8)
    assert np.array_equal(OnnxModel(path, num_classes=192).logits(x), x.flatten(1).numpy())
    with pytest.raises(ModelError, match=r"expected logits of shape \(5, 7\), got \(5, 192\)"):
        OnnxModel(path, num_classes=7).logits(x)


def test_file_without_an_output_of_logits_is_explained(tmp_path):
    path = of_nodes(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], {"y": ("n", 3, 8, 8)})
    with pytest.raises(ModelError, match=r"expected an output float \(N, K\), got tensor\(float\) \(n, 3, 8, 8\)"):
        OnnxModel(path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["garlic", "onion", "leek"], "metadata class_names: expected garlic as class 0, got leek"),
        (["leek", "onion", "garlic", "chive"], "expected 4 classes, got 3"),
    ],
)
def test_class_names_in_another_order_are_an_error(model_file, names, message):
    assert OnnxModel(model_file, class_names=["leek", "onion", "garlic"]).num_classes == 3
    with pytest.raises(ModelError, match=message):
        OnnxModel(model_file, class_names=names)


def test_class_names_of_a_foreign_file_are_compared_too(tmp_path):
    path = foreign(tmp_path / "m.onnx", outputs=1, shape=("n", 3, 1, 1), classes=3)
    assert OnnxModel(path, class_names=["a", "b", "c"]).num_classes == 3
    for text, message in (
        ('["a", "c", "b"]', "expected b as class 1, got c"),
        ("{0: 'a'}", "expected a JSON list of texts, got {0:"),
    ):
        stamp(path, {"class_names": text})
        with pytest.raises(ModelError, match=message):
            OnnxModel(path, class_names=["a", "b", "c"])


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
