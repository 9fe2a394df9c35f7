#!/bin/sh
# onnx 1.23.2 (numpy 2.4.6): save_model with external data appends to the data file that an earlier call left in a folder.
#
# Seen: a model with one initializer of 4,000 bytes, saved three times as folder/m.onnx with location="m.data": the data file holds
# 4,000, 8,000 and 12,000 bytes, and the last m.onnx points behind the old bytes. So saving over a model in place neither replaces
# it nor gives the same bytes twice. The guard against it (FileExistsError) looks for m.data in the working directory, not beside
# the model, where it is written: it stops the second save only if the model lies in the working directory.
# The harness writes its ONNX files whole, under a fresh name, and then renames them.
#
# Usage: findings/onnx_external_data_appends.sh     exits with 0 as long as it is so
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model(value):
    weight = numpy_helper.from_array(np.full(1000, value, np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "weight"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1000])],
        initializer=[weight],
    )
    return helper.make_model(graph)


def save(value, path):
    onnx.save_model(model(value), path, save_as_external_data=True, location="m.data", size_threshold=0)


folder, sizes = Path("folder"), []
folder.mkdir()
for value in (1, 2, 3):
    save(value, folder / "m.onnx")
    sizes.append((folder / "m.data").stat().st_size)
read = numpy_helper.to_array(onnx.load(folder / "m.onnx").graph.initializer[0])[0]
save(1, "m.onnx")
try:
    save(2, "m.onnx")
    here = "saved"
except FileExistsError as error:
    here = f"FileExistsError: {error}"
print(f"onnx {onnx.__version__}: bytes of folder/m.data after each of three saves of 4000 bytes: {sizes}")
print(f"the last folder/m.onnx reads {read}; the second save into the working directory: {here}")
sys.exit(0 if sizes == [4000, 8000, 12000] and read == 3 and here.startswith("FileExistsError") else "changed")
PY
