"""What an 8-bit file clips of its pixels: by hand, and in files that others made."""

import math

import numpy as np
import onnx
import onnxruntime
import onnxruntime.quantization as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from harness.export.input_range import InputRange, box_ranges, quantisation_of
from harness.export.runtime import OnnxModel

from .conftest import SIDE, images, pixels

WHITE, BLACK = np.ones((1, 3, SIDE, SIDE), np.float32), np.zeros((1, 3, SIDE, SIDE), np.float32)


def constant(name, values, kind=np.float32):
    return numpy_helper.from_array(np.asarray(values, kind), name)


def written(path, nodes, constants, *, image=("n", 3, 1, 2), kind=TensorProto.FLOAT, opset=21, output="y"):
    """A file of these nodes, from `x` to `y`."""
    inputs = [helper.make_tensor_value_info("x", kind, image)]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node(*node[:3], **(node[3:] or [{}])[0]) for node in nodes], "g", inputs, outputs)
    graph.initializer.extend(constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    return path


QUANTISED = [("QuantizeLinear", ["n", "scale", "zero"], ["q"]), ("DequantizeLinear", ["q", "scale", "zero"], ["y"])]
NORMALISED = [("Sub", ["x", "mean"], ["m"]), ("Div", ["m", "std"], ["n"])]
NORMALISATION = [constant("mean", 0.5), constant("std", 0.25)]
GREY = np.array([[0, 0.2], [0.25, 0.5], [0.88, 1]], np.float32).reshape(1, 3, 1, 2)
"""Six values, normalised: -2, -1.2, -1, 0, 1.52, 2."""


def test_share_is_that_of_a_calculation_by_hand(tmp_path):
    # Whole numbers of value / 0.01 + 100: -100, -20, 0, 100, 252, 300: three of six lie outside of 0 to 255.
    range_ = [constant("scale", 0.01), constant("zero", 100, np.uint8)]
    found = InputRange(written(tmp_path / "m.onnx", NORMALISED + QUANTISED, NORMALISATION + range_))
    assert found.is_known
    assert found.clipped_share([GREY]) == 0.5
    assert found.clipped_share([GREY, np.full((3, 3, 1, 2), 0.5, np.float32)]) == 3 / 24
    assert found.clipped_share([np.full((2, 3, 1, 2), 0.3, np.float32)]) == 0
    assert math.isnan(found.clipped_share([]))


def test_rounding_at_the_end_of_the_range_is_no_clipping(tmp_path):
    # 255.4 is rounded to 255, as every number is rounded; 255.6 becomes 255 by clipping alone.
    nodes = [("QuantizeLinear", ["x", "scale", "zero"], ["q"]), ("DequantizeLinear", ["q", "scale", "zero"], ["y"])]
    found = InputRange(written(tmp_path / "m.onnx", nodes, [constant("scale", 0.001), constant("zero", 0, np.uint8)]))
    x = np.array([0.2554, 0.2556], np.float32).reshape(1, 1, 1, 2).repeat(3, axis=1)
    assert found.clipped_share([x]) == 0.5


def test_signed_numbers_and_a_scale_of_each_channel(tmp_path):
    # Channel 0 is clipped below -0.128 and above 0.127, channel 1 above 1.27, channel 2 nowhere.
    range_ = [constant("scale", [0.001, 0.01, 0.1]), constant("zero", [0, 0, 0], np.int8)]
    nodes = [("QuantizeLinear", ["x", "scale", "zero"], ["q"], {"axis": 1}), ("Cast", ["q"], ["y"], {"to": TensorProto.FLOAT})]
    found = InputRange(written(tmp_path / "m.onnx", nodes, range_))
    assert found.clipped_share([WHITE[:, :, :1, :2]]) == pytest.approx(1 / 3)


def test_no_zero_point_is_zero_of_unsigned_numbers(tmp_path):
    nodes = [*NORMALISED, ("QuantizeLinear", ["n", "scale"], ["q"]), ("Cast", ["q"], ["y"], {"to": TensorProto.FLOAT})]
    found = InputRange(written(tmp_path / "m.onnx", nodes, [*NORMALISATION, constant("scale", 0.01)]))
    assert found.clipped_share([GREY]) == 0.5  # -2, -1.2 and -1 lie below 0, 2 is 200


def test_second_range_behind_the_normalisation_counts_too(tmp_path):
    first = [("QuantizeLinear", ["x", "s1", "z1"], ["q1"]), ("DequantizeLinear", ["q1", "s1", "z1"], ["d"])]
    nodes = [*first, ("Sub", ["d", "mean"], ["m"]), NORMALISED[1], *QUANTISED]
    wide = [constant("s1", 1 / 255), constant("z1", 0, np.uint8)]
    range_ = [constant("scale", 0.01), constant("zero", 100, np.uint8)]
    assert InputRange(written(tmp_path / "m.onnx", nodes, NORMALISATION + wide + range_)).clipped_share([GREY]) == 0.5


def test_layout_and_channel_order_before_the_range_are_followed(tmp_path):
    order = [
        ("Transpose", ["x"], ["t"], {"perm": [0, 2, 3, 1]}),
        ("Gather", ["t", "bgr"], ["b"], {"axis": 3}),
        ("Shape", ["x"], ["s"]),
        ("Slice", ["s", "zero1", "one1"], ["n0"]),
        ("Concat", ["n0", "rest"], ["shape"], {"axis": 0}),
        ("Reshape", ["b", "shape"], ["r"]),
        ("Sub", ["r", "mean"], ["m"]),
    ]
    whole = [
        constant(name, value, np.int64) for name, value in (("bgr", [2, 1, 0]), ("zero1", [0]), ("one1", [1]), ("rest", [6]))
    ]
    range_ = [constant("scale", 0.01), constant("zero", 100, np.uint8)]
    path = written(tmp_path / "m.onnx", [*order, NORMALISED[1], *QUANTISED], NORMALISATION + range_ + whole)
    assert InputRange(path).clipped_share([GREY]) == 0.5


def test_file_of_fixed_batch_size_counts_no_filling(tmp_path):
    range_ = [constant("scale", 0.01), constant("zero", 100, np.uint8)]
    path = written(tmp_path / "m.onnx", NORMALISED + QUANTISED, NORMALISATION + range_, image=(2, 3, 1, 2))
    x = np.concatenate([np.full((2, 3, 1, 2), 0.5, np.float32), GREY])
    assert InputRange(path).clipped_share([x]) == 3 / 18


@pytest.mark.parametrize(
    "nodes",
    [
        [*NORMALISED, ("Identity", ["n"], ["y"])],
        [("Conv", ["x", "kernel"], ["n"]), *QUANTISED],
        [("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), ("DequantizeLinear", ["q", "s", "z"], ["y"])],
        [("Mul", ["x", "x"], ["n"]), *QUANTISED],
    ],
    ids=["float", "behind a layer", "dynamic", "product of pixels"],
)
def test_file_without_a_range_of_pixels_has_no_share(nodes, tmp_path):
    range_ = [constant("scale", 0.01), constant("zero", 100, np.uint8), constant("kernel", np.ones((1, 3, 1, 1)))]
    found = InputRange(written(tmp_path / "m.onnx", nodes, NORMALISATION + range_))
    assert not found.is_known
    assert math.isnan(found.clipped_share([GREY]))


class Reader(ort.CalibrationDataReader):
    def __init__(self, name, batch):
        self.batches = iter([{name: batch}])

    def get_next(self):
        return next(self.batches, None)


@pytest.mark.parametrize("form", [ort.QuantFormat.QDQ, ort.QuantFormat.QOperator])
def test_range_that_clean_images_gave_a_foreign_file_is_read(form, tmp_path, model_file):
    grey = (0.25 + 0.5 * images(20)).numpy()
    ort.quantize_static(model_file, tmp_path / "q.onnx", Reader("images", grey), quant_format=form)
    found = InputRange(tmp_path / "q.onnx")
    assert found.clipped_share([grey]) == 0
    # Normalised by channel, 0.25 to 0.75 are (-1.25, 1.25), (-0.5, 1.17), (-0.125, 1.125) at most: one range of -1.25 to 1.25.
    # White is 2.5, 2, 1.75; black -2.5, -1.33, -0.75.
    assert found.clipped_share([WHITE]) == 1
    assert found.clipped_share([BLACK]) == pytest.approx(2 / 3)


def test_range_behind_the_resize_of_a_deployment_graph_is_read(deploy_file, tmp_path):
    dark = pixels(4, 40, 40) // 2
    quantised = {"op_types_to_quantize": ["Conv"], "quant_format": ort.QuantFormat.QDQ}
    ort.quantize_static(deploy_file, tmp_path / "q.onnx", Reader("images", dark.numpy()), **quantised)
    found = InputRange(tmp_path / "q.onnx")
    assert found.clipped_share([dark.numpy()]) == 0
    assert found.clipped_share([np.full((2, 50, 70, 3), 255, np.uint8)]) == 1


@given(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32))
def test_scale_and_zero_point_hold_both_ends_and_zero_in_small_steps(one, other):
    low, high = min(one, other, 0), max(one, other, 0)
    if high - low < 1e-30:
        return
    scale, zero = quantisation_of(low, high)
    assert np.float32(0 - int(zero)) * scale <= low <= 0 <= high <= np.float32(255 - int(zero)) * scale
    assert float(scale) <= (high - low) / 254 * (1 + 1e-6)


def test_range_without_a_number_but_zero_is_refused():
    with pytest.raises(ValueError, match="expected a range of finite numbers that holds more than 0, got 0 to 0"):
        quantisation_of(0, 0)


def test_normalised_black_and_white_are_the_ends(model_file):
    ranges = box_ranges(model_file, shape=(3, SIDE, SIDE))
    assert ranges["images"] == (0, 1)
    # (0.5, 0.4, 0.3), (0.2, 0.3, 0.4): black is -2.5, -1.33, -0.75, white 2.5, 2, 1.75.
    assert ranges["div"] == pytest.approx((-2.5, 2.5))
    assert set(ranges) == {"images", "sub", "div"}


def test_cubic_resize_gives_more_than_white_and_ends_the_path(tmp_path):
    sizes = constant("sizes", [1, 3, 4, 4], np.int64)
    for mode, known in (("linear", True), ("cubic", False)):
        nodes = [("Resize", ["x", "", "", "sizes"], ["y"], {"mode": mode, "antialias": 1})]
        path = written(tmp_path / "m.onnx", nodes, [sizes], image=(1, 3, 8, 8), opset=18)
        assert ("y" in box_ranges(path, shape=(3, 8, 8))) == known


def test_file_in_the_runtimes_own_format_has_no_share(tmp_path, model_file):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model_file, options, providers=["CPUExecutionProvider"])
    assert OnnxModel(tmp_path / "m.ort").num_classes == 3
    assert not InputRange(tmp_path / "m.ort").is_known


def test_constants_in_a_file_beside_are_read(tmp_path):
    range_ = [constant("scale", [0.01] * 3), constant("zero", [100] * 3, np.uint8)]
    path = written(tmp_path / "m.onnx", NORMALISED + QUANTISED, NORMALISATION + range_)
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0)
    assert onnx.load(path, load_external_data=False).graph.initializer[2].external_data
    assert InputRange(path).clipped_share([GREY]) == 0.5
