"""A tiny finished run with attacks, a targeted one, transfer, a corruption and a backdoor, and copies of its results to edit."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.records import Outcome
from harness.running.runner import run
from harness.storage.outcomes import load_outcome, save_outcome
from harness.storage.store import META, read_json, sha256_of_file, write_json
from harness.suites.files import load_suite
from tests.nets import ON_DIGITS

AUDITED = (
    f"name: audited_run{ON_DIGITS}"
    + """
models:
  second: {recipe: {name: standard, epochs: 2, batch_size: 64, optimiser: {learning_rate: 0.01}}}
  first: {recipe: {name: pgd, eps: 16/255, steps: 1, epochs: 1, batch_size: 64}, warm_start: second, poisons: []}
threat_model: {norm: Linf, eps: [4/255, 16/255]}
poisons:
  backdoor: {name: backdoor, target_class: "0", rates: [0.1]}
attacks:
  fgsm: {name: fgsm}
  pgd: {name: pgd, steps: 2}
  aimed: {name: pgd, steps: 2, target_class: "3", models: [first]}
  few: {name: pgd, steps: 1, protocol: independent, eps: [16/255], models: [first]}
corruptions:
  gaussian_noise: {name: gaussian_noise, severities: [2, 4]}
transfer: [{attack: pgd, eps: 16/255}]
evaluation: {limit: 40}
expectations:
  - {model: second, metric: clean_accuracy, at_least: 0.1}
requirements:
  - {model: second, metric: clean_accuracy, at_least: 0.1}
  - {model: first, metric: robust_accuracy, attack: pgd, eps: 4/255, at_least: 0.05}
"""
)
Copied = Callable[..., Path]


def forged(entry: Path, change: Callable[[Outcome], Outcome]) -> None:
    """Changes a stored outcome, and the hash that is recorded of it."""
    path = entry / "outcome.safetensors"
    save_outcome(change(load_outcome(path)), path)
    meta = read_json(entry / META)
    write_json(entry / META, {**meta, "files": {**meta["files"], path.name: sha256_of_file(path)}})


def run_without_page(suite: Path, *overrides: str, out: Path, store: Path) -> None:
    """Runs a suite but for figures and page, which are not looked at here and take longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.running.runner.write_report", lambda _: None)
        assert not run(load_suite(suite, overrides), out=out, store=store, device="cpu").failures


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suite, its results in `results/audited_run` and its store in `results/.store`; not to be changed."""
    folder = tmp_path_factory.mktemp("verification")
    (folder / "suite.yaml").write_text(AUDITED)
    run_without_page(folder / "suite.yaml", out=folder / "results" / "audited_run", store=folder / "results" / ".store")
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Copied:
    """Copies the results to a place of the test's own, with their store beside them or without."""

    def copy(*, store: bool = True) -> Path:
        shutil.copytree(finished / "results" / "audited_run", tmp_path / "audited_run")
        if store:
            shutil.copytree(finished / "results" / ".store", tmp_path / ".store")
        return tmp_path / "audited_run"

    return copy
