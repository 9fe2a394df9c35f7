#!/bin/sh
# openvino 2026.4.1 (onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6): which precision OpenVINO computes in unless it is told.
#
# Seen, on a linear network of 3072 pixels and 10 classes:
# - `openvino.save_model` stores float32 weights as float16 by default: logits change by 2e-4 of the largest one. With
#   compress_to_fp16=False they change by 1e-6 of it.
# - The hint of the precision that a model is compiled with is bfloat16 where the processor computes in it, else float32. Asked for
#   bfloat16 on another processor it computes in float32 without a word; the compiled model's property alone says so. Only
#   INFERENCE_PRECISION_HINT=f32 gives float32 everywhere.
#
# Usage: findings/openvino_precision.sh     exits with 0 as long as it is so
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
x, weight = rng.random((50, 3072), dtype=np.float32), rng.standard_normal((3072, 10)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "weight"], ["logits"])],
    "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3072])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
    initializer=[numpy_helper.from_array(weight, "weight")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "m.onnx")
real = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
core, scale = openvino.Core(), np.abs(real).max()


def compiled(name, **hints):
    model = core.compile_model(core.read_model(name), "CPU", hints)
    return model.get_property("INFERENCE_PRECISION_HINT").to_string(), np.abs(model({"x": x})[0] - real).max() / scale


model = core.read_model("m.onnx")
openvino.save_model(model, "default.xml")
openvino.save_model(model, "float32.xml", compress_to_fp16=False)
able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
print(f"OpenVINO {openvino.__version__}; the processor computes in bfloat16: {able}; differences relative to the largest logit")
found = {
    "as the file": compiled("m.onnx"),
    "asked for float32": compiled("m.onnx", INFERENCE_PRECISION_HINT="f32"),
    "asked for bfloat16": compiled("m.onnx", INFERENCE_PRECISION_HINT="bf16"),
    "saved": compiled("default.xml", INFERENCE_PRECISION_HINT="f32"),
    "saved with compress_to_fp16=False": compiled("float32.xml", INFERENCE_PRECISION_HINT="f32"),
}
for name, (precision, difference) in found.items():
    print(f"{name}: computes in {precision}, {difference:.2g}")
usual = "bf16" if able else "f32"
right = found["as the file"][0] == found["asked for bfloat16"][0] == usual and found["asked for float32"][0] == "f32"
right = right and found["saved"][1] > 1e-5 > max(found["asked for float32"][1], found["saved with compress_to_fp16=False"][1])
sys.exit(0 if right else "changed")
PY
