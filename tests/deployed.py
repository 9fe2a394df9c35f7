"""A tiny suite with trained models, for the tests of what leaves the harness."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import HarnessError, ModelError
from harness.running.workspace import Workbench, open_workbench
from harness.steps.base import Step
from harness.steps.export import Onnx
from harness.steps.train import Train
from harness.suites.files import load_suite
from harness.suites.suite import Suite

SUITE = """
name: deployed
dataset: {name: digits, resolution: 16}
architecture: {name: factory, factory: "tests.nets:small_convnet", mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
models:
  baseline: {recipe: {name: standard, epochs: 2, batch_size: 64}}
  other: {recipe: {name: standard, epochs: 1, batch_size: 64}, poisons: []}
poisons:
  backdoor: {name: backdoor, target_class: 0, rates: [0.1]}
threat_model: {norm: Linf, eps: [4/255, 16/255, 48/255]}
attacks:
  random_noise: {name: random_noise}
  fgsm: {name: fgsm}
  pgd: {name: pgd, steps: 2}
corruptions:
  fog: {name: fog, severities: [1, 3, 5]}
evaluation: {limit: 60}
crosscheck: {limit: 24, corruptions: [fog], calibration: 16}
"""


@dataclass(frozen=True)
class Deployed:
    """The suite's file, and the store with its trained models."""

    file: Path
    store: Path

    def suite(self, *overrides: str) -> Suite:
        return load_suite(self.file, overrides)

    def bench(self, *overrides: str) -> Workbench:
        return open_workbench(self.suite(*overrides), store=self.store)

    def model(self, name: str = "baseline") -> Train:
        bench = self.bench()
        return bench.training(bench.plan.suite.variant(name))


def train_models(folder: Path) -> Deployed:
    """Trains the suite's models where that is not done yet, and nothing else of it."""
    found = Deployed(folder / "deployed.yaml", folder / "store")
    found.file.write_text(SUITE)
    bench = found.bench()
    finished(bench, *bench.plan.training.values())
    return found


def finished(bench: Workbench, *steps: Step) -> None:
    """Runs what is missing of some steps; all must succeed."""
    if failures := bench.finish(*steps):
        raise HarnessError("\n".join(failures))


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    folder = tmp_path_factory.getbasetemp() / "deployed"
    folder.mkdir(exist_ok=True)
    return train_models(folder)


@pytest.fixture
def broken_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """No float ONNX file can be made, and none that was made before is taken for it."""

    def broken(*_: object) -> None:
        raise ModelError("it computes something else")

    monkeypatch.setattr(Onnx, "export", broken)
    monkeypatch.setattr(Onnx, "VERSION", 1000)
