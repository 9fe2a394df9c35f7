"""Python and C++ judge the same logits alike: large ones, small ones, classes that are switched off, NaN."""

import math
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.bundle import Bundle, BundleCondition, BundleWriter, read_bundle
from harness.deployment.agreement import Rule
from harness.deployment.runtimes import OnnxCpp, OnnxPython, find_program
from harness.deployment.scores import Score
from harness.errors import DataError, ModelError
from harness.threat import Norm

INF = float("inf")
OFF = (0.0, 0.0, -INF)
"""Bias that switches the last class off."""
CASES: dict[str, tuple[float, tuple[float, float, float], np.ndarray, bool]] = {
    "large, rounded": (5600, (0, 0, 0), np.full((40, 3), 0.02), True),
    "large, one percent off": (5600, (0, 0, 0), np.full((40, 3), 60.0), False),
    "small, rounded": (0.1, (0, 0, 0), np.full((40, 3), 1e-4), True),
    "small, off": (0.1, (0, 0, 0), np.full((40, 3), 2e-3), False),
    "switched off in both": (4, OFF, np.zeros((40, 3)), True),
    "switched off in the file alone": (4, OFF, np.tile([0, 0, INF], (40, 1)), False),
    "switched off in the reference alone": (4, (0, 0, 0), np.tile([0, 0, -INF], (40, 1)), False),
    "above in both": (4, (INF, 0, 0), np.zeros((40, 3)), True),
    "one infinity in forty": (4, (0, 0, 0), np.where(np.arange(120).reshape(40, 3) == 7, -INF, 0.0), False),
    "NaN": (4, (math.nan, 0, 0), np.zeros((40, 3)), False),
}
"""Factor of the file's logits, their bias, what the reference adds, and whether the two agree."""
needs_program = pytest.mark.skipif(find_program() is None, reason="needs harness_eval; `make cpp` builds it")


def model(path: Path, factor: float, bias: tuple[float, float, float]) -> Path:
    """A file whose logits are its three pixels, times a factor, and a bias."""
    constants = {"factor": np.full(3, factor, np.float32), "bias": np.array(bias, np.float32)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Mul", ["flat", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 1, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        initializer=[onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def pixels() -> np.ndarray:
    """Images (40, 3, 1, 1), some with a tie of two classes."""
    x = np.random.default_rng(0).random((40, 3, 1, 1), dtype=np.float32)
    x[::5, 1] = x[::5, 0]
    return x


def bundle_of(path: Path, factor: float, bias: tuple[float, float, float], added: np.ndarray) -> Bundle:
    x, y = pixels(), np.arange(40) % 3
    clean_bias = np.nan_to_num(np.array(bias, np.float32), nan=0, posinf=INF, neginf=-INF)
    logits = np.where(np.isposinf(added), 1, factor * x[:, :, 0, 0] + clean_bias + np.where(np.isposinf(added), 0, added))
    attack = BundleCondition(name="pgd", kind="attack", attack="pgd", norm=Norm.LINF, eps="1/255", clean="clean")
    with BundleWriter(path, class_names=[*"abc"], model="m", model_sha256="") as bundle:
        for spec in (BundleCondition(name="clean", kind="clean"), attack):
            with bundle.condition(spec) as condition:
                condition.append(x, y, logits.astype(np.float32))
    return read_bundle(path)


def numbers(score: Score) -> dict[str, object]:
    found = {name: value for name, value in vars(score).items() if name not in {"condition", "images_per_second"}}
    return {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in found.items()}


@needs_program
@pytest.mark.parametrize("expects", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_cpp_and_python_say_the_same(tmp_path: Path, own_program: Path, case: str, expects: bool) -> None:
    factor, bias, added, agrees = CASES[case]
    path, bundle = model(tmp_path / "m.onnx", factor, bias), bundle_of(tmp_path / "b.h5", factor, bias, added)
    rule = Rule(expects_reference=expects)
    python, cpp = OnnxPython(path, threads=1).score(bundle, rule), OnnxCpp(path, own_program, threads=1).score(bundle, rule)
    for one, other in zip(python, cpp, strict=True):
        assert numbers(one) == numbers(other)
        assert one.matches is agrees


@pytest.mark.parametrize("case", CASES)
def test_rule_is_right(tmp_path: Path, case: str) -> None:
    factor, bias, added, agrees = CASES[case]
    path, bundle = model(tmp_path / "m.onnx", factor, bias), bundle_of(tmp_path / "b.h5", factor, bias, added)
    for score in OnnxPython(path, threads=1).score(bundle, Rule()):
        assert (score.reasons == ()) is agrees
        assert math.isnan(score.max_difference) == (case == "NaN")
        assert (score.max_difference == INF) == (case.endswith("alone") or "infinity" in case)


@needs_program
@pytest.mark.parametrize("eps_text", ["1/0", "1e99999999", "2/255", "much"])
def test_budget_that_python_refuses_is_refused_in_cpp(tmp_path: Path, own_program: Path, eps_text: str) -> None:
    path, bundle = model(tmp_path / "m.onnx", 1, (0, 0, 0)), bundle_of(tmp_path / "b.h5", 1, (0, 0, 0), np.zeros((40, 3)))
    with h5py.File(bundle.path, "r+") as file:
        file["conditions/pgd"].attrs["eps_text"] = np.bytes_(eps_text)
    with pytest.raises(DataError, match=r"/conditions/pgd: .*eps"):
        read_bundle(bundle.path)
    with pytest.raises(ModelError, match="/conditions/pgd: attribute eps_text: expected the number in eps"):
        OnnxCpp(path, own_program, threads=1).score(bundle, Rule())


@needs_program
def test_either_byte_order_gives_the_same_numbers(tmp_path: Path, own_program: Path) -> None:
    path, bundle = model(tmp_path / "m.onnx", 1, (0, 0, 0)), bundle_of(tmp_path / "b.h5", 1, (0, 0, 0), np.zeros((40, 3)))
    runtimes = OnnxPython(path, threads=1), OnnxCpp(path, own_program, threads=1)
    native = [list(map(numbers, runtime.score(bundle, Rule()))) for runtime in runtimes]
    with h5py.File(bundle.path, "r+") as file:
        for group in file["conditions"].values():
            for name in ("x", "y", "logits"):
                values = group[name][:]
                del group[name]
                group[name] = values.astype(values.dtype.newbyteorder(">"))
    assert [list(map(numbers, runtime.score(read_bundle(bundle.path), Rule()))) for runtime in runtimes] == native
