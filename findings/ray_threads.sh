#!/bin/sh
# ray 2.60.0 (torch 2.15.0, onnxruntime 1.32.0, onnx 1.23.2): how many threads a task computes with on a machine of two or more cores.
#
# Seen:
# - A task without num_cpus gets OMP_NUM_THREADS=1, and so PyTorch one thread.
# - Ray gives the worker to the next task. With num_cpus=2 that sees OMP_NUM_THREADS=2, but PyTorch has read the variable before: it
#   stays at 1 thread, so half of what the task reserved idles.
# - ONNX Runtime reads no such variable: a session starts a thread for every core whatever the task reserved.
# `harness run --executor ray` sets PyTorch's threads in every task, and ONNX Runtime's from those.
#
# Usage: findings/ray_threads.sh     exits with 0 as long as it is so
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0 torch==2.15.0 onnxruntime==1.32.0 onnx==1.23.2
unset OMP_NUM_THREADS
"$work/venv/bin/python" - <<'PY'
import os
import sys

import ray

ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")


def threads():
    import onnxruntime
    import torch
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    before = len(os.listdir("/proc/self/task"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    started = len(os.listdir("/proc/self/task")) - before
    del session
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads(), started + 1  # and the one that calls


task = ray.remote(threads)
first = [ray.get(task.remote()) for _ in range(3)]
then = [ray.get(task.options(num_cpus=2).remote()) for _ in range(3)]
ray.shutdown()
seen = {pid for pid, *_ in first}
reused = [row for row in then if row[0] in seen]
print("process, OMP_NUM_THREADS, threads of PyTorch, of ONNX Runtime")
print("num_cpus unset", *first, sep="\n  ")
print("num_cpus=2", *then, sep="\n  ")
right = bool(reused) and all(row[1:3] == ("1", 1) for row in first) and all(row[1:3] == ("2", 1) for row in reused)
right = right and all(row[3] > 1 for row in first)
sys.exit(0 if right else "changed")
PY
