import csv
import json
import os
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from harness import metrics
from harness.bundle import BundleCondition, BundleWriter
from harness.errors import ModelError
from harness.export.differences import Differences
from harness.export.files import stamp
from harness.export.runtime import OnnxModel
from harness.threat import Norm, ThreatModel
from tests.cpp_eval.conftest import CLASSES, Run, built, execute

Evaluator = Callable[..., Run]
N = 60
BUDGETS = {Norm.LINF: Fraction(8, 255), Norm.L2: Fraction(1, 2), Norm.L1: Fraction(5)}


def logits_of(model: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def images(n: int = N, seed: int = 0, side: int = 12) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.random((n, 3, 1, 1)) * rng.random((n, 3, side, side))).astype(np.float32)


def labels_for(logits: NDArray[np.float32], seed: int = 0) -> NDArray[np.int64]:
    """Two thirds right."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(logits)) < 2 / 3, logits.argmax(1), rng.integers(0, CLASSES, len(logits)))


def attacked(x: NDArray[np.float32], norm: Norm, *, factor: float = 1.0) -> NDArray[np.float32]:
    threat_model = ThreatModel(norm=norm, eps=BUDGETS[norm])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    start = torch.from_numpy(x)
    return (start + factor * (threat_model.project(start + noise, start) - start)).clamp(0, 1).numpy()


def spec_of(norm: Norm, **fields: object) -> BundleCondition:
    return BundleCondition(
        name=f"noise {norm}", kind="attack", attack="noise", norm=norm, eps=BUDGETS[norm], clean="clean", **fields
    )


def write(path: Path, conditions: dict[BundleCondition, tuple[NDArray, NDArray, NDArray | None]]) -> Path:
    names = [f"class {k}" for k in range(CLASSES)]
    with BundleWriter(path, class_names=names, model="small", model_sha256="00") as bundle:
        for spec, arrays in conditions.items():
            with bundle.condition(spec) as condition:
                condition.append(*arrays)
    return path


CLEAN = BundleCondition(name="clean", kind="clean")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, small_net: Path) -> Path:
    """A clean condition and noise in each norm, with the logits of ONNX Runtime in Python."""
    x = images()
    logits = logits_of(small_net, x)
    y = labels_for(logits)
    conditions = {CLEAN: (x, y, logits)}
    for norm in Norm:
        x_adv = attacked(x, norm)
        conditions[spec_of(norm)] = (x_adv, y, logits_of(small_net, x_adv))
    return write(tmp_path_factory.mktemp("bundles") / "sweep.h5", conditions)


def test_both_runtimes_agree_and_the_exit_code_says_so(harness_eval: Evaluator, small_net: Path, sweep: Path) -> None:
    run = harness_eval("score", "--model", small_net, "--bundle", sweep, "--threads", 1)
    assert run.code == 0, run.err
    assert run.report["agrees"] is True
    for condition in run.report["conditions"]:
        assert condition["top1_agreement"] == 1
        assert condition["flips"] == []
        assert condition["logit_diff"]["max"] < 1e-4


def test_metrics_equal_the_python_package(harness_eval: Evaluator, small_net: Path, sweep: Path) -> None:
    report = harness_eval("score", "--model", small_net, "--bundle", sweep, "--quiet").report
    clean_logits = logits_of(small_net, images())
    y = labels_for(clean_logits)
    clean_correct = clean_logits.argmax(1) == y
    for condition, x in zip(report["conditions"], [images(), *(attacked(images(), norm) for norm in Norm)], strict=True):
        predicted = logits_of(small_net, x).argmax(1)
        confusion = metrics.confusion_matrix(predicted, y, CLASSES)
        scores = metrics.class_report(confusion)
        assert condition["confusion"] == confusion.tolist()
        assert condition["accuracy"] == pytest.approx(metrics.accuracy(predicted, y))
        found = [condition[f"{name}_macro"] for name in ("precision", "recall", "f1")]
        assert found == pytest.approx(list(metrics.macro_scores(scores)))
        assert [row["f1"] for row in condition["per_class"]] == pytest.approx(scores.f1.tolist(), nan_ok=True)
        if condition["kind"] == "attack":
            is_adversarial = predicted != y
            assert condition["attack_success_rate"] == pytest.approx(metrics.attack_success_rate(clean_correct, is_adversarial))
            assert condition["robust_accuracy"] == pytest.approx(metrics.robust_accuracy(clean_correct, is_adversarial))
    assert 0.5 < report["conditions"][0]["accuracy"] < 1
    assert report["conditions"][0]["robust_accuracy"] is None


@pytest.mark.parametrize("norm", list(Norm))
def test_ball_violations_equal_the_threat_models(harness_eval: Evaluator, small_net: Path, tmp_path: Path, norm: Norm) -> None:
    x = images()
    x_adv = attacked(x, norm, factor=1.25)
    logits = logits_of(small_net, x)
    bundle = write(tmp_path / "bundle.h5", {CLEAN: (x, logits.argmax(1), logits), spec_of(norm): (x_adv, logits.argmax(1), None)})
    run = harness_eval("score", "--model", small_net, "--bundle", bundle, "--quiet")
    expected = ThreatModel(norm=norm, eps=BUDGETS[norm]).violation(torch.from_numpy(x_adv), torch.from_numpy(x))
    condition = run.report["conditions"][1]
    assert condition["max_violation"] == pytest.approx(float(expected.max()), rel=1e-4)
    assert condition["violations"] == int((expected > 1e-3).sum())
    assert condition["reasons"][0].startswith(f"{condition['violations']} examples outside the ball or [0,1]")
    assert run.code == 1


def test_a_projected_attack_is_inside_in_every_norm(harness_eval: Evaluator, small_net: Path, sweep: Path) -> None:
    report = harness_eval("score", "--model", small_net, "--bundle", sweep, "--quiet").report
    assert [condition["violations"] for condition in report["conditions"]] == [0, 0, 0, 0]


def test_changed_logits_are_found_as_flips_and_quantiles(harness_eval: Evaluator, small_net: Path, tmp_path: Path) -> None:
    x = images()
    logits = logits_of(small_net, x)
    reference = logits + np.random.default_rng(3).normal(0, 0.05, logits.shape).astype(np.float32)
    swapped = [4, 17]
    reference[swapped] = reference[swapped][:, ::-1]
    bundle = write(tmp_path / "bundle.h5", {CLEAN: (x, logits.argmax(1), reference)})
    run = harness_eval("score", "--model", small_net, "--bundle", bundle, "--quiet", "--margin", 0.2, "--quantile-bound", 0.3)
    condition = run.report["conditions"][0]
    flipped = np.flatnonzero(reference.argmax(1) != logits.argmax(1))
    assert [flip["example"] for flip in condition["flips"]] == flipped.tolist()
    margins = [reference[i].max() - reference[i, logits[i].argmax()] for i in flipped]
    assert [flip["margin"] for flip in condition["flips"]] == pytest.approx(margins, rel=1e-4, abs=1e-5)
    compared = Differences(reference, logits)
    assert condition["flips_outside_margin"] == compared.flips_outside(0.2)
    difference = np.abs(reference.astype(np.float64) - logits)
    wanted = {"max": difference.max(), "mean": difference.mean(), "p99": np.quantile(difference.max(1), 0.99)}
    assert condition["logit_diff"] == pytest.approx(wanted | {"p99_relative": compared.p99_relative}, rel=1e-3)
    assert run.code == 1


def test_a_file_that_says_it_is_another_model_is_not_judged_unless_asked(
    harness_eval: Evaluator, small_net: Path, tmp_path: Path
) -> None:
    x = images()
    logits = logits_of(small_net, x)
    bundle = write(tmp_path / "bundle.h5", {CLEAN: (x, logits.argmax(1), logits[:, ::-1].copy())})
    other = tmp_path / "other.onnx"
    other.write_bytes(small_net.read_bytes())
    stamp(other, {"model_sha256": "11"})
    run = harness_eval("score", "--model", other, "--bundle", bundle, "--quiet")
    assert (run.code, run.report["judged"], run.report["agrees"]) == (0, False, None)
    assert run.report["conditions"][0]["flips_outside_margin"] > 0
    assert run.err.splitlines() == [
        f"harness_eval: {other}: another model than the bundle's, by its model_sha256; "
        "agreement is not judged (--judge always does)"
    ]
    assert harness_eval("score", "--model", other, "--bundle", bundle, "--quiet", "--judge", "always").code == 1
    assert harness_eval("score", "--model", small_net, "--bundle", bundle, "--quiet").code == 1
    never = harness_eval("score", "--model", small_net, "--bundle", bundle, "--quiet", "--judge", "never")
    assert (never.code, never.err) == (0, "")


def test_images_of_255_are_no_bundle(harness_eval: Evaluator, small_net: Path, sweep: Path, tmp_path: Path) -> None:
    pixels = tmp_path / "pixels.h5"
    pixels.write_bytes(sweep.read_bytes())
    with h5py.File(pixels, "r+") as file:
        file["conditions/clean/x"][...] = 255 * file["conditions/clean/x"][...]
    run = harness_eval("score", "--model", small_net, "--bundle", pixels, "--quiet")
    assert run.code == 2
    assert run.err.startswith(f"harness_eval: {pixels}: /conditions/clean/x: example 0: expected values from 0 to 1, got one ")


def test_a_users_own_model_is_scored_without_reference_logits(harness_eval: Evaluator, small_net: Path, tmp_path: Path) -> None:
    x = images()
    y = labels_for(logits_of(small_net, x))
    bundle = write(tmp_path / "bundle.h5", {CLEAN: (x, y, None)})
    run = harness_eval("score", "--model", small_net, "--bundle", bundle, "--quiet")
    condition = run.report["conditions"][0]
    absent = ("top1_agreement", "flips", "flips_outside_margin", "logit_diff", "agrees")
    assert [condition[name] for name in absent] == [None] * 5
    assert 0.5 < condition["accuracy"] < 1
    assert run.code == 0


def test_report_and_table_go_to_files(harness_eval: Evaluator, small_net: Path, sweep: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "report.json", tmp_path / "table.csv"
    run = harness_eval("score", "--model", small_net, "--bundle", sweep, "--out", out, "--csv", table)
    assert (run.code, run.out) == (0, "")
    assert len(run.err.splitlines()) == 4  # progress, a line a condition
    report = json.loads(out.read_text())
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["clean", "noise Linf", "noise L2", "noise L1"]
    assert float(rows[1]["attack_success_rate"]) == report["conditions"][1]["attack_success_rate"]
    assert rows[0]["attack_success_rate"] == ""
    assert float(rows[3]["logit_diff_p99"]) == report["conditions"][3]["logit_diff"]["p99"]


def test_the_report_says_how_it_was_made(harness_eval: Evaluator, small_net: Path, sweep: Path) -> None:
    options = ("--threads", 1, "--batch", 7, "--optimization-level", "basic")
    report = harness_eval("score", "--model", small_net, "--bundle", sweep, "--quiet", *options).report
    assert report["versions"]["onnxruntime"] == onnxruntime.__version__
    assert report["runtime"] == {
        "provider": "CPUExecutionProvider",
        "provider_options": {},
        "threads": 1,
        "optimization_level": "basic",
        "batch": 7,
    }
    latency = report["conditions"][0]["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    assert report["conditions"][0]["images_per_second"] > 0


def test_a_file_of_the_newest_opset_is_scored_as_python_does_or_refused_in_one_line(
    harness_eval: Evaluator, cpp_fixtures: Path
) -> None:
    newest, bundle = cpp_fixtures / "models" / "newest.onnx", cpp_fixtures / "bundles" / "hand.h5"
    written = onnx.load(newest)
    assert (written.ir_version, written.opset_import[0].version) == (onnx.IR_VERSION, onnx.defs.onnx_opset_version())
    run = harness_eval("score", "--model", newest, "--bundle", bundle, "--quiet")
    try:
        OnnxModel(newest)
    except ModelError:
        assert (run.code, run.out, len(run.err.splitlines())) == (2, "", 1)
        assert run.err.startswith(f"harness_eval: {newest}")
    else:
        assert run.report["conditions"][0]["accuracy"] == 0.75


def broken_files() -> list[tuple[str, str]]:
    models = ("missing", "truncated", "text", "other_size", "uint8", "two_classes", "undeclared_two_classes", "two_inputs")
    bundles = ("missing", "half", "text", "version", "label_out_of_range", "image_nan", "logit_nan", "images_are_flat")
    bundles += ("deflate_too_short", "large_chunks", "two_lines")
    return [*(("models", f"{name}.onnx") for name in models), *(("bundles", f"broken/{name}.h5") for name in bundles)]


@pytest.mark.parametrize(("kind", "name"), broken_files())
def test_bad_input_is_one_line_and_exit_code_2(harness_eval: Evaluator, cpp_fixtures: Path, kind: str, name: str) -> None:
    files = {"models": cpp_fixtures / "models" / "flatten.onnx", "bundles": cpp_fixtures / "bundles" / "hand.h5"}
    files[kind] = cpp_fixtures / kind / name
    run = harness_eval("score", "--model", files["models"], "--bundle", files["bundles"], "--quiet")
    assert run.code == 2
    assert run.out == ""
    assert len(run.err.splitlines()) == 1
    assert run.err.startswith(f"harness_eval: {files[kind]}")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("score",),
        ("score", "--model", "m.onnx"),
        ("nonsense",),
        ("score", "--model", "m.onnx", "--bundle", "b.h5", "--optimization-level", "most"),
        ("score", "--model", "m.onnx", "--bundle", "b.h5", "--provider-option", "novalue"),
        ("score", "--model", "m.onnx", "--bundle", "b.h5", "--margin", ""),
        ("score", "--model", "m.onnx", "--bundle", "b.h5", "--judge", "often"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(harness_eval: Evaluator, arguments: tuple[str, ...]) -> None:
    run = harness_eval(*arguments)
    assert (run.code, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1
    assert run.err.startswith("harness_eval: ")


BOUNDS = dict.fromkeys(("--margin", "--quantile-bound"), ("a number >= 0", ("nan", "-nan", "inf", "-inf", "-1", "1e400", "x")))
COUNTS = {
    "--batch": ("a whole number from 1 to 65536", ("0", "-1", "65537", "1.5", "nan", "18446744073709551617")),
    "--threads": ("a whole number from 0 to 1024", ("-1", "1025", "1e2", "nan", "0x10", "99999999999")),
}
NUMBERS = [(option, value, expected) for option, (expected, values) in {**BOUNDS, **COUNTS}.items() for value in values]


@pytest.mark.parametrize(("option", "value", "expected"), NUMBERS)
def test_a_number_out_of_range_is_one_line_and_exit_code_2(
    harness_eval: Evaluator, option: str, value: str, expected: str
) -> None:
    run = harness_eval("score", "--model", "m.onnx", "--bundle", "b.h5", f"{option}={value}")
    assert (run.code, run.out, run.err) == (2, "", f"harness_eval: {option}: expected {expected}, got {value}\n")


def test_numbers_are_decimal_and_no_threads_means_all(harness_eval: Evaluator, small_net: Path, sweep: Path) -> None:
    options = ("--batch", "010", "--threads", "0", "--margin", "1e-03", "--quantile-bound", "0.5")
    report = harness_eval("score", "--model", small_net, "--bundle", sweep, "--quiet", *options).report
    assert (report["runtime"]["batch"], report["rule"]) == (10, {"margin": 1e-3, "quantile_bound": 0.5})
    assert report["runtime"]["threads"] == len(os.sched_getaffinity(0))


def test_a_report_that_cannot_be_written_is_exit_code_2(harness_eval: Evaluator, small_net: Path, sweep: Path) -> None:
    run = harness_eval("score", "--model", small_net, "--bundle", sweep, "--quiet", "--out", "/nowhere/report.json")
    assert run.code == 2
    assert run.err == "harness_eval: /nowhere/report.json: expected a file that can be written\n"


def test_a_report_in_the_place_of_a_folder_is_refused_before_anything_is_scored(harness_eval: Evaluator, tmp_path: Path) -> None:
    run = harness_eval("score", "--model", tmp_path / "no.onnx", "--bundle", tmp_path / "no.h5", "--out", tmp_path)
    assert (run.code, run.err) == (2, f"harness_eval: {tmp_path}: expected a file that can be written\n")


def test_the_reports_folder_is_looked_for_before_anything_is_scored(harness_eval: Evaluator, tmp_path: Path) -> None:
    run = harness_eval("score", "--model", tmp_path / "no.onnx", "--bundle", tmp_path / "no.h5", "--csv", "/nowhere/table.csv")
    assert (run.code, run.err) == (2, "harness_eval: /nowhere/table.csv: expected a file that can be written\n")


def test_a_report_that_cannot_be_printed_is_exit_code_2(small_net: Path, sweep: Path) -> None:
    command = [built("harness_eval"), "score", "--model", small_net, "--bundle", sweep, "--quiet"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "harness_eval: stdout: expected to take the whole result, it could not\n")


def test_memory_does_not_grow_with_the_number_of_examples(harness_eval: Evaluator, small_net: Path, tmp_path: Path) -> None:
    peaks = []
    for n in (100, 1500):
        x = images(n, side=96)
        bundle = write(
            tmp_path / f"{n}.h5", {CLEAN: (x, np.zeros(n, np.int64), None), spec_of(Norm.LINF): (x, np.zeros(n, np.int64), None)}
        )
        report = harness_eval("score", "--model", small_net, "--bundle", bundle, "--quiet", "--batch", 16).report
        peaks.append(report["peak_memory_mb"])
    images_mb = 1400 * images(1, side=96).nbytes / 2**20
    assert images_mb > 140
    assert peaks[1] - peaks[0] < 15


def test_the_yardstick_runs_on_the_same_files(small_net: Path, sweep: Path) -> None:
    run = execute(built("bare_loop"), "--model", small_net, "--bundle", sweep, "--images", 32, "--batch", 8, "--threads", 1)
    assert run.code == 0
    assert run.report["images"] == 32
    assert run.report["images_per_second"] > 0


@pytest.mark.parametrize("asked", [2, 8, 9])
def test_score_takes_turns_with_the_yardstick_while_it_is_asked_to(small_net: Path, sweep: Path, asked: int) -> None:
    command = (built("bare_loop"), "--model", small_net, "--bundle", sweep, "--threads", 1)
    run = execute(*command, "--images", N, "--batch", N // 2, "--in-turns", stdin="\n" * asked)
    assert run.code == 0, run.err
    turns = [json.loads(line) for line in run.out.splitlines()]
    names = [name for name in ("clean", *(spec_of(norm).name for norm in Norm)) for _ in range(2)]
    assert [turn["condition"] for turn in turns] == names[:asked]
    assert all(turn["bare"] > 0 and turn["score"] > 0 for turn in turns)


def test_turns_that_would_mix_conditions_are_refused(small_net: Path, sweep: Path) -> None:
    run = execute(built("bare_loop"), "--model", small_net, "--bundle", sweep, "--batch", 7, "--in-turns")
    assert run.code == 2
    assert "expected conditions of a whole number of batches" in run.err
