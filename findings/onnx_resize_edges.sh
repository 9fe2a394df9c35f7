#!/bin/sh
# onnxruntime 1.32.0, onnx 1.23.2, pillow 13.0.0 (numpy 2.4.6): the antialiased Resize of ONNX differs from Pillow's at the edges, by
# its default exclude_outside=0.
#
# Seen, on 64 x 64 noise shrunk to 20 x 20 with antialias=1, linear: exclude_outside=0 differs from Pillow by several hundredths of
# the range, in the outermost rows and columns alone; exclude_outside=1 agrees to 1e-5. PyTorch's exporter writes 1. A deployment
# graph that somebody else wrote with the default shows the network other pixels than those it was measured on.
#
# Usage: findings/onnx_resize_edges.sh     exits with 0 as long as it is so
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 pillow==13.0.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnxruntime
import PIL
from onnx import TensorProto, helper, numpy_helper
from PIL import Image


def resized(x, size, exclude_outside):
    node = helper.make_node(
        "Resize", ["x", "", "", "size"], ["y"], mode="linear", antialias=1, exclude_outside=exclude_outside,
        coordinate_transformation_mode="half_pixel",
    )
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, *x.shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, size, size])],
        initializer=[numpy_helper.from_array(np.array([1, 1, size, size], np.int64), "size")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x[None, None]})[0][0, 0]


x = np.random.default_rng(0).random((64, 64), dtype=np.float32)
pillow = np.asarray(Image.fromarray(x).resize((20, 20), Image.Resampling.BILINEAR))
apart = {flag: np.abs(resized(x, 20, flag) - pillow) for flag in (0, 1)}
print(f"onnxruntime {onnxruntime.__version__}, Pillow {PIL.__version__}: largest difference of a pixel in [0,1]")
for flag, difference in apart.items():
    print(f"exclude_outside={flag}: {difference.max():.2g} anywhere, {difference[1:-1, 1:-1].max():.2g} within the outermost pixels")
right = apart[0].max() > 0.01 and apart[0][1:-1, 1:-1].max() < 1e-5 and apart[1].max() < 1e-5
sys.exit(0 if right else "changed")
PY
