"""Verbs that compute nothing import none of the libraries whose import takes seconds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness.cli.doctor import examine
from harness.cli.main import main
from harness.storage.store import Store
from harness.system.device import may_have_gpu

HEAVY = frozenset(
    {
        *("torch", "torchvision", "timm", "torchattacks", "art", "foolbox", "lightning_fabric", "safetensors.torch"),
        *("pandas", "pyarrow", "sklearn", "scipy", "matplotlib", "jinja2", "h5py", "onnx", "onnxruntime"),
    }
)
SCRIPT = """
import json, sys
from harness.cli.main import main
heavy, verbs = map(json.loads, sys.argv[1:])
found = []
for verb in verbs:
    try:
        main(verb)
    except SystemExit as stop:
        found.append([stop.code, sorted(set(heavy) & set(sys.modules))])
print(json.dumps(found), file=sys.stderr)
"""
"""Runs verbs one after the other; prints the exit code of each, and what it or an earlier one imported."""
CHANGING = {"created", "seconds"}
"""What provenance.json says of one run alone."""
VERBS = (
    *(["--help"], ["run", "--help"], ["list"], ["list", "attacks"], ["plan", "quickstart"]),
    *(["validate", suite] for suite in ("quickstart", "poisoning", "fashion_mnist")),
)


def heavy_imports(*verbs: list[str]) -> dict[str, list[str]]:
    """Returns, for the first verb that imports heavy libraries, which ones; each must exit with 0."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(sorted(HEAVY)), json.dumps(verbs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stderr.splitlines()[-1])
    assert [code for code, _ in found] == [0] * len(verbs), done.stderr
    return next(({" ".join(verb): heavy} for verb, (_, heavy) in zip(verbs, found, strict=True) if heavy), {})


def test_verbs_that_compute_nothing_import_no_heavy_library(tmp_path: Path) -> None:
    store, digest = Store(tmp_path / ".store"), "ab" * 32
    with store.locked(digest, "a step"), store.writing("clean", digest, {"title": "a step"}):
        pass
    assert heavy_imports(*VERBS, ["show", digest, "--store", str(store.root)]) == {}


def test_the_test_above_can_fail() -> None:
    assert "torch" in heavy_imports(["validate", "quickstart", "--set", "architecture=tests.nets:small_convnet"]).popitem()[1]


HERE_WITHOUT_GPU = pytest.mark.skipif(may_have_gpu(), reason="PyTorch is asked about GPUs")
TINY = """
name: tiny
dataset: {name: digits, resolution: 16}
architecture: {name: timm, arch: test_efficientnet.r160_in1k, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
models:
  baseline: {recipe: {name: standard, epochs: 1, batch_size: 256}}
  warm: {recipe: {name: standard, epochs: 1, batch_size: 256}, warm_start: baseline}
threat_model: {eps: [16/255]}
attacks: {fgsm: {name: fgsm}}
transfer: [{attack: fgsm, eps: 16/255}]
evaluation: {limit: 20}
"""
OF_TABLES = {"pandas", "pyarrow", "jinja2"}
"""What writes and reads tables and the page."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite's folder with its finished run."""
    folder = tmp_path_factory.mktemp("start_up")
    (folder / "tiny.yaml").write_text(TINY)
    run_in(folder)
    return folder


def of_run(folder: Path, *options: str) -> list[str]:
    return ["run", str(folder / "tiny.yaml"), "--out", str(folder / "out"), "--store", str(folder / "store"), *options]


def run_in(folder: Path, *options: str) -> None:
    """Runs the suite in a process of its own, whose number of threads no other test has set."""
    subprocess.run([sys.executable, "-m", "harness", *of_run(folder, *options)], check=True, capture_output=True)


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@HERE_WITHOUT_GPU
def test_run_of_which_every_step_is_stored_imports_no_pytorch_and_draws_no_figure(trained: Path) -> None:
    drawn, known = files_below(trained / "out" / "curves"), json.loads((trained / "out" / "provenance.json").read_text())
    imported = heavy_imports(*(of_run(trained, "--device", device) for device in ("auto", "cpu")))
    assert {name for names in imported.values() for name in names} <= OF_TABLES
    assert files_below(trained / "out" / "curves") == drawn
    found = json.loads((trained / "out" / "provenance.json").read_text())
    assert found.keys() == known.keys()
    assert {name for name in found if found[name] != known[name]} <= CHANGING


def test_cached_run_writes_lost_and_changed_files_anew(trained: Path) -> None:
    files = files_below(trained / "out")
    for name in ("report.html", "cells.csv", "sweep.csv", "provenance.json", "curves/roc__baseline.svg"):
        (trained / "out" / name).write_text("changed")
    for name in ("leaderboard.csv", "samples.parquet", "curves/roc__baseline.png"):
        (trained / "out" / name).unlink()
    for name in ("roc", "confusion"):
        shutil.rmtree(trained / "out" / name)
    run_in(trained)
    again = files_below(trained / "out")
    assert again.keys() == files.keys()
    assert {path.name for path in files if again[path] != files[path]} <= {"cells.csv", "provenance.json", "report.html"}
    assert b"changed" not in again.values()
    assert set(pd.read_csv(trained / "out" / "cells.csv")["status"]) == {"cached"}


def test_changed_suite_is_drawn_anew(trained: Path) -> None:
    drawn = files_below(trained / "out" / "curves")
    run_in(trained, "--set", "threat_model.eps=[16/255, 32/255]", "--set", "title=Another")
    again = files_below(trained / "out" / "curves")
    assert {path.name for path in drawn if again[path] != drawn[path]} >= {"robust_accuracy__fgsm.png", "roc__baseline.svg"}
    assert "<title>Another" in (trained / "out" / "report.html").read_text()


@HERE_WITHOUT_GPU
def test_doctor_imports_no_heavy_library_where_there_is_no_gpu() -> None:
    assert heavy_imports(["doctor"]) == {}


def test_unknown_network_is_still_named_with_its_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["validate", "quickstart", "--set", "architecture.arch=resnet81"])
    assert stop.value.code == 2
    assert "timm has no model 'resnet81'; did you mean resnet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "threads",
    [{}, {"MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"}],
    ids=str,
)
def test_doctor_says_the_threads_and_device_that_torch_takes(threads: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in threads.items():
        monkeypatch.setenv(name, value)
    scripts = (
        "from harness.cli.doctor import _device; from harness.system.device import torch_threads; "
        "print(torch_threads(), _device())",
        "import torch; from harness.storage.provenance import device_name; "
        "print(torch.get_num_threads(), device_name(torch.device('cuda' if torch.cuda.is_available() else 'cpu')))",
    )
    said, true = (subprocess.run([sys.executable, "-c", it], capture_output=True, text=True, check=True).stdout for it in scripts)
    assert said == true


def test_doctor_has_a_row_for_device_and_threads() -> None:
    assert {"device", "threads", "free disk here"} <= {check for check, _, _ in examine()}
