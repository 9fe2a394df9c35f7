"""A model that takes longer than it may; it ends by itself after some seconds where nothing stops it."""

import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.errors import ModelError
from harness.export.runtime import OnnxModel

ROUNDS = 3_000_000


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that means the pixels, after so many rounds of adding 0 to them."""
    image, tensor = ["N", 3, 4, 4], TensorProto.FLOAT
    body = helper.make_graph(
        [helper.make_node("Add", ["before", "nothing"], ["after"]), helper.make_node("Identity", ["go"], ["on"])],
        "round",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", tensor, image),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("after", tensor, image)],
    )
    constants = {"rounds": np.array(ROUNDS, np.int64), "nothing": np.zeros(1, np.float32), "axes": np.array([2, 3], np.int64)}
    graph = helper.make_graph(
        [
            helper.make_node("Loop", ["rounds", "", "x"], ["same"], body=body),
            helper.make_node("ReduceMean", ["same", "axes"], ["logits"], keepdims=0),
        ],
        "slow",
        [helper.make_tensor_value_info("x", tensor, image)],
        [helper.make_tensor_value_info("logits", tensor, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path_factory.mktemp("slow") / "slow.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_pass_that_takes_too_long_ends_in_one_line_and_leaves_no_thread(slow: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, before, started = OnnxModel(slow, timeout=0.3), threading.active_count(), time.perf_counter()
    with pytest.raises(ModelError, match=r"slow\.onnx: expected an end within 0\.3 s, got none"):
        model.logits(np.zeros((1, 3, 4, 4), np.float32))
    assert time.perf_counter() - started < 2
    assert not capfd.readouterr().err
    assert threading.active_count() <= before + 1  # a timer that has fired is about to end


def test_pass_within_its_time_is_left_alone(tmp_path: Path, slow: Path) -> None:
    model = onnx.load(slow)
    (rounds,) = (tensor for tensor in model.graph.initializer if tensor.name == "rounds")
    rounds.CopyFrom(numpy_helper.from_array(np.array(2, np.int64), "rounds"))
    onnx.save(model, tmp_path / "quick.onnx")
    x = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
    for timeout in (None, 60.0):
        found = OnnxModel(tmp_path / "quick.onnx", timeout=timeout).logits(x)
        np.testing.assert_allclose(found, x.mean(axis=(2, 3)), rtol=1e-6)
