#!/bin/sh
# openvino 2026.4.1, MNN 3.6.1 (onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6): both ignore `antialias` of an ONNX Resize.
#
# Seen, on 64 x 64 noise shrunk to 20 x 20 by a Resize with antialias=1, linear, exclude_outside=1: both load the file, and warn of
# nothing that has to do with it. Both give what ONNX Runtime gives for antialias=0, to 1e-5, and are up to 0.4 of the range off what
# it gives for the file. A deployment graph that resizes shows the network other pixels there than those it was measured on.
#
# Beside that: the command `mnnconvert` of MNN 3.6.1 runs `pip install aliyun-log-python-sdk` when it starts, and sends a log of its
# use. So this script calls the conversion itself.
#
# Usage: findings/resize_antialias_ignored.sh     exits with 0 as long as it is so
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino==2026.4.1 MNN==3.6.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import _tools
import MNN
import MNN.expr
import MNN.nn
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

x = np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32)


def written(name, antialias):
    node = helper.make_node(
        "Resize", ["x", "", "", "size"], ["y"], mode="linear", antialias=antialias, exclude_outside=antialias,
        coordinate_transformation_mode="half_pixel",
    )
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 20, 20])],
        initializer=[numpy_helper.from_array(np.array([1, 1, 20, 20], np.int64), "size")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), name)
    return name


def in_onnxruntime(name):
    return onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def in_openvino(name):
    core = openvino.Core()
    return core.compile_model(core.read_model(name), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"x": x})[0]


def in_mnn(name):
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", name, "--MNNModel", "m.mnn", "--bizCode", "x"])
    network = MNN.nn.load_module_from_file("m.mnn", ["x"], ["y"])
    images = MNN.expr.placeholder(list(x.shape), MNN.expr.NCHW, MNN.expr.float)
    images.write(x)
    return np.array(MNN.expr.convert(network.forward([images])[0], MNN.expr.NCHW).read()).reshape(1, 1, 20, 20)


asked, plain = in_onnxruntime(written("antialias.onnx", 1)), in_onnxruntime(written("plain.onnx", 0))
right = True
for name, found in (
    (f"OpenVINO {openvino.__version__}", in_openvino("antialias.onnx")),
    (f"MNN {MNN.version()}", in_mnn("antialias.onnx")),
):
    off, same = np.abs(found - asked).max(), np.abs(found - plain).max()
    print(f"{name}: {off:.2g} off what onnxruntime {onnxruntime.__version__} gives, {same:.2g} off what it gives without antialias")
    right = right and off > 0.1 and same < 1e-5
sys.exit(0 if right else "changed")
PY
