"""Verbs that compute nothing import none of the libraries whose import takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.doctor import DRIVERS, examine
from harness.cli.main import main
from harness.storage.store import Store

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


@pytest.mark.skipif(any(any(Path("/dev").glob(pattern)) for pattern in DRIVERS), reason="PyTorch is asked about GPUs")
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
        "from harness.cli.doctor import _device, _threads; print(_threads(), _device())",
        "import torch; from harness.storage.provenance import device_name; "
        "print(torch.get_num_threads(), device_name(torch.device('cuda' if torch.cuda.is_available() else 'cpu')))",
    )
    said, true = (subprocess.run([sys.executable, "-c", it], capture_output=True, text=True, check=True).stdout for it in scripts)
    assert said == true


def test_doctor_has_a_row_for_device_and_threads() -> None:
    assert {"device", "threads", "free disk here"} <= {check for check, _, _ in examine()}
