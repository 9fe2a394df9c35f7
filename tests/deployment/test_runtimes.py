"""Each runtime on one bundle: Python and C++ give the same numbers, and bad files give one line."""

import dataclasses
import math
import os
import shutil
import stat
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.bundle import Bundle, read_bundle
from harness.deployment import runtimes
from harness.deployment.agreement import Rule
from harness.deployment.runtimes import OnnxCpp, OnnxPython, PyTorch, find_program
from harness.deployment.scores import Score
from harness.deployment.selection import bundling_of, model_files
from harness.errors import HarnessError, ModelError
from tests.deployed import Deployed, finished

RULE = Rule()
needs_program = pytest.mark.skipif(find_program() is None, reason="needs harness_eval; `make cpp` builds it")
TIMES = {"images_per_second", "condition"}


@pytest.fixture(scope="module")
def bundle(deployed: Deployed) -> Bundle:
    bench = deployed.bench()
    step = bundling_of(bench.plan, bench.plan.suite.variant("baseline@backdoor@0.1"), bench.context.data.class_names)
    finished(bench, step)
    return read_bundle(step.file(bench.context))


@pytest.fixture(scope="module")
def files(deployed: Deployed) -> dict[str, Path]:
    """ONNX files of the model whose bundle it is, and of another one."""
    bench, found = deployed.bench(), {}
    for name in ("baseline@backdoor@0.1", "other"):
        steps = model_files(bench.plan, bench.plan.suite.variant(name))
        wanted = [steps["onnx"], *([] if name == "other" else [steps["int8"], steps["fp16"], steps["deploy"]])]
        finished(bench, *wanted)
        found |= {step.FORMAT if name != "other" else "other": step.file(bench.context) for step in wanted}
    return found


def numbers(score: Score) -> dict[str, object]:
    return {name: value for name, value in vars(score).items() if name not in TIMES}


def assert_same(left: Score, right: Score) -> None:
    for name, value in numbers(left).items():
        if isinstance(value, float):
            other = float(numbers(right)[name])  # type: ignore[arg-type]
            assert math.isclose(value, other, abs_tol=1e-5) or (math.isnan(value) and math.isnan(other)), name
        else:
            assert value == numbers(right)[name], name


def test_pytorch_meets_its_own_stored_logits(deployed: Deployed, bundle: Bundle) -> None:
    network = deployed.model("baseline@backdoor@0.1").classifier(deployed.bench().context)
    assert all(score.reasons == () and score.agreement == 1 for score in PyTorch(network).score(bundle, RULE))


def test_exported_model_agrees_in_python(bundle: Bundle, files: dict[str, Path]) -> None:
    scores = OnnxPython(files["onnx"]).score(bundle, RULE)
    assert [score.reasons for score in scores] == [()] * len(bundle.conditions)
    assert all(score.images_per_second > 0 for score in scores)


def test_other_model_does_not_agree(bundle: Bundle, files: dict[str, Path]) -> None:
    clean = OnnxPython(files["other"]).score(bundle, RULE)[0]
    assert clean.flips_outside_margin > 0
    assert "outside the margin" in clean.reasons[0]


@needs_program
@pytest.mark.parametrize("file", ["onnx", "int8", "fp16", "other"])
def test_cpp_gives_the_numbers_of_python(bundle: Bundle, files: dict[str, Path], own_program: Path, file: str) -> None:
    python = {score.condition: score for score in OnnxPython(files[file], threads=1).score(bundle, RULE)}
    cpp = OnnxCpp(files[file], own_program, threads=1).score(bundle, RULE)
    assert {score.condition for score in cpp} == set(python)
    for score in cpp:
        assert_same(dataclasses.replace(score, reasons=python[score.condition].reasons), python[score.condition])
        assert bool(score.reasons) == bool(python[score.condition].reasons)


@needs_program
def test_rule_reaches_the_cpp_program(bundle: Bundle, files: dict[str, Path], own_program: Path) -> None:
    strict, lenient = Rule(margin=0, quantile_bound=0), Rule(margin=100, quantile_bound=100)
    assert any(score.reasons for score in OnnxCpp(files["onnx"], own_program).score(bundle, strict))
    assert not any(score.reasons for score in OnnxCpp(files["other"], own_program).score(bundle, lenient))


def truncated(path: Path, folder: Path) -> Path:
    copy = folder / "truncated.onnx"
    copy.write_bytes(path.read_bytes()[:-100])
    return copy


def test_missing_truncated_and_deployment_files_are_refused_in_python(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path
) -> None:
    cases = {
        tmp_path / "none.onnx": "expected an ONNX file, found none",
        truncated(files["onnx"], tmp_path): "expected a readable ONNX model",
        files["deploy"]: "got a deployment graph",
    }
    for path, message in cases.items():
        with pytest.raises(ModelError, match=message) as caught:
            OnnxPython(path).score(bundle, RULE)
        assert len(str(caught.value).splitlines()) == 1


@needs_program
def test_truncated_file_is_refused_by_cpp_in_one_line(
    bundle: Bundle, files: dict[str, Path], own_program: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        OnnxCpp(truncated(files["onnx"], tmp_path), own_program).score(bundle, RULE)
    assert len(str(caught.value).splitlines()) == 1


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_program_that_crashes_is_an_error_with_its_last_words(bundle: Bundle, tmp_path: Path) -> None:
    crashing = script(tmp_path / "crashing", "echo first >&2; echo out of luck >&2; exit 3")
    with pytest.raises(HarnessError, match="expected exit code 0, 1 or 2, got 3: out of luck"):
        OnnxCpp(tmp_path / "x.onnx", crashing).score(bundle, RULE)


def test_program_that_does_not_start_is_an_error(bundle: Bundle, tmp_path: Path) -> None:
    half_built = script(tmp_path / "half_built", "")
    half_built.write_bytes(b"\x7fELF")
    with pytest.raises(HarnessError, match="half_built: expected a program that starts, got: Exec format error"):
        OnnxCpp(tmp_path / "x.onnx", half_built).score(bundle, RULE)


def test_environment_names_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = script(tmp_path / "mine", "exit 0")
    monkeypatch.setenv("HARNESS_EVAL", str(program))
    assert find_program() == program
    monkeypatch.setenv("HARNESS_EVAL", str(tmp_path / "none"))
    with pytest.raises(HarnessError, match="HARNESS_EVAL: expected a program, found none at"):
        find_program()


def test_release_build_of_a_checkout_comes_first_then_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_EVAL", raising=False)
    for preset in ("debug", "release"):
        (tmp_path / preset).mkdir()
        script(tmp_path / preset / "harness_eval", "exit 0")
    monkeypatch.setattr("harness.deployment.runtimes.BUILDS", tmp_path)
    assert find_program() == tmp_path / "release" / "harness_eval"
    shutil.rmtree(tmp_path / "release")
    assert find_program() == tmp_path / "debug" / "harness_eval"
    monkeypatch.setattr("harness.deployment.runtimes.BUILDS", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path / "debug"))
    assert find_program() == tmp_path / "debug" / "harness_eval"
    monkeypatch.setenv("PATH", "")
    assert find_program() is None


def test_program_that_never_ends_is_one_line_and_is_killed(tmp_path: Path) -> None:
    (program := tmp_path / "harness_eval").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 20\n")
    program.chmod(0o755)
    runtime = OnnxCpp(tmp_path / "net.onnx", program, timeout=0.5)
    with pytest.raises(ModelError, match=r"net\.onnx: expected an end within 0\.5 s, got none from harness_eval"):
        runtime._run("score")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_installed_package_says_in_one_line_how_to_build_the_program_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runtimes.how_to_install() == runtimes.INSTALL  # here is a checkout
    monkeypatch.setattr(runtimes, "SOURCES", tmp_path)
    said = runtimes.how_to_install()
    assert "\n" not in said
    assert f"cpp_eval/setup.sh {sys.executable} && cpp_eval/configure.sh release && cmake --build cpp_eval/build/release" in said
    assert f"source archive (.tar.gz) of robustness-harness {version('robustness-harness')}" in said
    assert said.endswith("HARNESS_EVAL=FOLDER/cpp_eval/build/release/harness_eval names it")
