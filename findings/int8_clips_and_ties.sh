#!/bin/sh
# onnxruntime 1.32.0, onnx 1.23.2 (numpy 2.4.6): two things that static INT8 quantisation does to a network that is judged.
#
# Seen, on a linear network of 48 pixels and 10 classes, calibrated on pixels from 0.25 to 0.75 as a data set without white has
# them:
# - Pixels above that range are clipped in the INT8 file alone: four pixels of 0.75 that an attack brightens to 1 change no logit in
#   INT8, and logits by up to 0.6 in float32. An attack made against the float network loses strength that the network does not
#   resist. Calibrated with one white image more, INT8 follows. (The range always holds 0, so black pixels are not clipped.)
# - All logits of all images are one of at most 256 values, so that the two largest are often exactly equal; no float image ties.
#   argmax gives a tie to the lower index, a margin of 0 counts as a success elsewhere.
#
# Usage: findings/int8_clips_and_ties.sh     exits with 0 as long as it is so
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - 2>/dev/null <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

rng = np.random.default_rng(0)
weight = rng.standard_normal((48, 10)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "weight"], ["logits"])],
    "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 48])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
    initializer=[numpy_helper.from_array(weight, "weight")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "float.onnx")


class Images(CalibrationDataReader):
    def __init__(self, *batches):
        self.batches = iter(batches)

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


def quantised(name, *batches):
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static("float.onnx", name, Images(*batches), quant_format=QuantFormat.QDQ, per_channel=True, **types)
    return logits_of(name)


def logits_of(name):
    session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


grey = rng.uniform(0.25, 0.75, (500, 48)).astype(np.float32)
white = np.ones((1, 48), np.float32)
real, narrow, wide = logits_of("float.onnx"), quantised("narrow.onnx", grey), quantised("wide.onnx", grey, white)
bright, brighter = grey.copy(), grey.copy()
bright[:, :4], brighter[:, :4] = grey.max(), 1
files = {"float32": real, "INT8": narrow, "INT8, a white image more": wide}
moved = {name: float(np.abs(logits(brighter) - logits(bright)).max()) for name, logits in files.items()}


def ties(logits):
    second, first = np.sort(logits, axis=1)[:, -2:].T
    return float((first == second).mean())


print(f"onnxruntime {onnxruntime.__version__}: largest change of a logit when four pixels go from 0.75 to 1: {moved}")
found = narrow(grey)
print(f"INT8: {len(np.unique(found))} distinct values in {found.size} logits; {ties(found):.1%} of the images tie")
print(f"float32: {len(np.unique(real(grey)))} distinct values; {ties(real(grey)):.1%} of the images tie")
right = moved["INT8"] == 0 and min(moved["float32"], moved["INT8, a white image more"]) > 0.5
sys.exit(0 if right and len(np.unique(found)) <= 256 and ties(found) > 0.005 and ties(real(grey)) == 0 else "changed")
PY
