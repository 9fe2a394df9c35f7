"""An ONNX file is attacked, and ONNX Runtime alone decides what is adversarial."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import harness
from harness.attacks.base import ATTACKS
from harness.deployment.model_files import export
from harness.errors import ModelError, StepFailed
from harness.evaluation.gradient_check import check_gradients
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.models.classifier import Classifier
from harness.models.layout import Inference
from harness.models.reference import ReferenceClassifier
from harness.planning.data_checks import check_without_images
from harness.planning.plan import plan_of
from harness.running.runner import RunSummary, run
from harness.steps.base import Context
from harness.storage.store import Store
from harness.suites.base import Variant
from harness.suites.suite import Suite
from harness.threat import ThreatModel
from tests.finished import FACTORY, judging
from tests.onnxfile.conftest import Files
from tests.onnxfile.files import save_onnx
from tests.onnxfile.test_gradient import reference_of


def run_in(folder: Path, suite: Suite) -> RunSummary:
    return run(suite, out=folder / "out", store=folder / "store", device="cpu")


def digest_of(suite: Suite) -> str:
    return plan_of(suite, suite.dataset.load()).training[Variant("mine")].digest


def test_files_get_the_accuracies_of_the_network_they_were_made_from(files: Files, tmp_path: Path) -> None:
    models = {
        "torch": files.twin,
        "graph": {"onnx": files.net_onnx},
        "int8": {"onnx": files.int8_onnx, "twin": files.net_pth, "architecture": FACTORY},
    }
    attacks = {"pgd": {"name": "pgd", "steps": 3}}
    summary = run_in(tmp_path, judging(models, attacks=attacks, evaluation={"limit": 60}))
    assert summary.ok
    results = harness.load_results(summary.folder)
    rows = results.cells.set_index(["model", "attack", "eps"])
    for key, row in rows.iterrows():
        label, *condition = key
        assert row["status"] == "done"
        assert abs(row["accuracy"] - rows.loc[("torch", *condition), "accuracy"]) <= (0.0 if label != "int8" else 3 / 60)
    assert rows.loc[("graph", "pgd", 16 / 255), "accuracy"] < rows.loc[("graph", "pgd", 4 / 255), "accuracy"] < 0.95
    known = results.provenance["models"]
    assert known["graph"]["file"] == "net.onnx"
    assert known["int8"]["gradient"] == "the gradient of its twin net.pth"
    assert "the gradient of its graph, converted to PyTorch" in (summary.folder / "report.html").read_text()


class Stubborn(nn.Module):
    """Takes only images that are not bright for those of the network's classes; all others it calls class 0."""

    def __init__(self, network: nn.Module) -> None:
        """See the class."""
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, K)."""
        return self.network((x - 0.5) / 0.5)


def test_success_is_what_the_runtime_says_not_the_twin(files: Files) -> None:
    """Planted: a reference model that never changes its mind, behind a twin that does."""
    x, y = files.x[:20], files.y[:20]
    reference = reference_of(files.net_onnx)
    constant = Classifier(_Remembers(reference, x), mean=(0.0,) * 3, std=(1.0,) * 3, class_names=reference.class_names)
    model = ReferenceClassifier(constant, Stubborn(files.network))
    outcome = _swept(model, x, y, "pgd", steps=5)
    assert not outcome.conditions[0].is_adversarial.any()
    assert np.allclose(outcome.conditions[0].logits, constant(x).numpy())
    honest = _swept(ReferenceClassifier(reference, Stubborn(files.network)), x, y, "pgd", steps=5)
    assert honest.conditions[0].is_adversarial.mean() > 0.5
    final = _final_images(ReferenceClassifier(reference, Stubborn(files.network)), x, y)
    found = reference(final).argmax(1) != y
    assert np.array_equal(found.numpy()[honest.conditions[0].is_adversarial], np.ones(honest.conditions[0].is_adversarial.sum()))


class _Remembers(nn.Module):
    """A network that gives each image the logits of the original nearest to it."""

    def __init__(self, reference: Classifier, x: Tensor) -> None:
        super().__init__()
        self.x, self.known = x, reference(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.known[torch.cdist(x.flatten(1), self.x.flatten(1)).argmin(dim=1)]


class Split:
    """Images with labels, as a sweep reads them."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        """See the class."""
        self.x, self.labels = x, y.numpy()
        self.ids = self.hashes = tuple(map(str, range(len(x))))

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns an image and its label."""
        return self.x[index], int(self.labels[index])


def _swept(model: nn.Module, x: Tensor, y: Tensor, name: str, **fields: Any) -> Any:
    settings = SweepSettings(ATTACKS.parse({"name": name, **fields}), (ThreatModel(eps="12/255"),), inference=Inference())
    return sweep(model, Split(x, y), settings, probes=0)


def _final_images(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    images = x.clone()
    settings = SweepSettings(ATTACKS.parse({"name": "pgd", "steps": 5}), (ThreatModel(eps="12/255"),))

    def keep(eps: object, rows: Any, found: Tensor) -> None:
        images[torch.from_numpy(rows)] = found

    sweep(model, Split(x, y), settings, probes=0, keep=keep)
    return images


class _Counts(nn.Module):
    """A network that counts the images that it is shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.shown = network, [0]

    def forward(self, x: Tensor) -> Tensor:
        self.shown[0] += len(x)
        return self.network((x - 0.5) / 0.5)


@pytest.mark.parametrize("name", ["square", "random_noise"])
def test_attacks_without_gradients_ask_the_runtime_and_not_the_twin(name: str, files: Files) -> None:
    twin = _Counts(files.network)
    model = ReferenceClassifier(reference_of(files.net_onnx), twin)
    budget = {"queries": 60} if name == "square" else {}
    outcome = _swept(model, files.x[:8], files.y[:8], name, **budget)
    fixed = twin.shown[0]
    assert outcome.conditions[0].forwards >= 8
    assert fixed <= 16  # what is tried before an attack, whatever its queries
    if name == "square":
        twin.shown[0] = 0
        _swept(model, files.x[:8], files.y[:8], name, queries=120)
        assert twin.shown[0] == fixed


def test_false_gradient_of_a_twin_is_found(files: Files) -> None:
    reference, x, y = reference_of(files.int8_onnx), files.x[:6], files.y[:6]
    honest = check_gradients(ReferenceClassifier(reference, Stubborn(files.network)), x, y)
    assert (honest.gradients_compared, honest.gradients_wrong) == (6, 0)
    other = torch.nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10)).requires_grad_(False)
    assert check_gradients(ReferenceClassifier(reference, other), x, y).gradients_wrong > 3


def of_file(path: Path | str, **fields: object) -> Suite:
    return judging({"mine": {"onnx": str(path), **fields}})


def test_digest_is_of_the_content_of_all_files_and_of_the_gradient(files: Files, tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "net.onnx", files.network, external=True)
    first = digest_of(of_file(path))
    (tmp_path / "elsewhere").mkdir()
    for name in ("net.onnx", "net.onnx.data"):
        shutil.copy(tmp_path / name, tmp_path / "elsewhere" / name)
    assert digest_of(of_file(tmp_path / "elsewhere" / "net.onnx")) == first
    with_twin = of_file(path, twin=files.net_pth, architecture=FACTORY)
    assert digest_of(with_twin) != first
    data = tmp_path / "net.onnx.data"
    values = bytearray(data.read_bytes())
    values[-4:] = np.float32(0.25).tobytes()
    data.write_bytes(values)
    assert digest_of(of_file(path)) != first


def test_file_that_changes_while_the_suite_runs_fails_its_steps(files: Files, tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "net.onnx", files.network)
    suite = of_file(path)
    data = suite.dataset.load()
    step = plan_of(suite, data).training[Variant("mine")]
    save_onnx(path, files.network, flip=True)
    with pytest.raises(StepFailed, match="its weights changed while the suite ran"):
        step.classifier(Context(Store(tmp_path / "store"), data, torch.device("cpu")))


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"twin": "other.pth", "architecture": FACTORY}, "mine: twin: expected the network that the file was made from"),
        ({"twin": "net.pth", "architecture": "resnet18"}, "mine: twin: resnet18: the weights in .* do not fit"),
        ({"twin": "none.pth", "architecture": FACTORY}, "mine.twin"),
        ({"classes": ["a", "b"]}, "mine: classes: expected all classes of the data"),
    ],
)
def test_parts_that_do_not_fit_are_found_before_a_step(models: Mapping[str, Any], message: str, files: Files) -> None:
    entry = {key: str(files.folder / value) if key == "twin" else value for key, value in models.items()}
    suite = of_file(files.net_onnx, **entry)
    with pytest.raises(ModelError, match=message) as refused:
        check_without_images(suite)
    assert str(refused.value).count("\n") <= 1
    with pytest.raises(ModelError, match=message):
        plan_of(suite, suite.dataset.load())


def test_model_without_a_gradient_says_so_in_log_and_tables(
    files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(session: object) -> None:
        raise ModelError("onnx2torch is not installed")

    monkeypatch.setattr("harness.onnxfile.conversion.converted", refuse)
    attacks = {"fgsm": {"name": "fgsm"}, "square": {"name": "square", "queries": 100}}
    summary = run_in(tmp_path, judging({"mine": {"onnx": files.net_onnx}}, attacks=attacks))
    assert "mine: no gradient, black-box attacks only: onnx2torch is not installed" in caplog.text
    cells = harness.load_results(summary.folder).cells
    fgsm, square = (cells[cells["attack"] == name] for name in ("fgsm", "square"))
    assert set(fgsm["verdict"]) == {"INVALID"}
    assert set(square["verdict"]) == {"PASS"}
    assert square["accuracy"].min() < cells[pd.isna(cells["eps"])]["accuracy"].item()
    assert "no gradient, black-box attacks only" in (summary.folder / "report.html").read_text()


def test_nothing_is_exported_from_an_onnx_file(files: Files, tmp_path: Path) -> None:
    suite = judging({"mine": {"onnx": files.net_onnx}}, attacks={"fgsm": {"name": "fgsm"}})
    assert run_in(tmp_path, suite).ok
    with pytest.raises(StepFailed, match="expected a model of PyTorch to export, got an ONNX file; `harness crosscheck"):
        export(suite, "mine", "onnx", out=tmp_path / "again.onnx", store=tmp_path / "store")
    with pytest.raises(ModelError, match="whose weights are"):
        export(suite, "mine", "pth", out=tmp_path / "again.pth", store=tmp_path / "store")
