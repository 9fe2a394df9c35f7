"""The built evaluator, and small models and bundles to run it on."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

CPP_EVAL = Path(__file__).parents[2] / "cpp_eval"
BUILT = CPP_EVAL / "build" / "release"
CLASSES = 5


class Run(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def built(name: str) -> Path:
    if not (BUILT / name).is_file():
        pytest.skip(f"needs the built {name}: run make cpp")
    return BUILT / name


def execute(program: Path, *arguments: object, stdin: str = "") -> Run:
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    return Run(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def harness_eval() -> Callable[..., Run]:
    program = built("harness_eval")
    return lambda *arguments: execute(program, *arguments)


@pytest.fixture(scope="session")
def cpp_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the C++ tests."""
    out = tmp_path_factory.mktemp("cpp_fixtures")
    subprocess.run([sys.executable, CPP_EVAL / "tests" / "fixtures", out], check=True, capture_output=True)
    return out


def save_graph(path: Path, nodes: list[onnx.NodeProto], *, constants: dict[str, np.ndarray], image: Any, output: Any) -> Path:
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", [image], [output], initializer=tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="session")
def small_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, a mean over the pixels and a linear layer, with random weights."""
    rng = np.random.default_rng(7)
    constants = {
        "kernel": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "weight": 3 * rng.standard_normal((8, CLASSES)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["convolved"]),
        helper.make_node("Relu", ["convolved"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["features"]),
        helper.make_node("MatMul", ["features", "weight"], ["logits"]),
    ]
    return save_graph(
        tmp_path_factory.mktemp("models") / "small.onnx",
        nodes,
        constants=constants,
        image=helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "height", "width"]),
        output=helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES]),
    )
