"""Exported files are steps: proven against PyTorch, found again by their digest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.deployment.selection import model_files
from harness.errors import HarnessError
from harness.export.runtime import OnnxModel
from harness.models.classifier import Classifier
from harness.steps.export import Deploy, Int8, ModelFile, Onnx
from harness.storage.store import read_json
from tests.deployed import Deployed, finished


def files_of(deployed: Deployed, *overrides: str, model: str = "baseline") -> dict[str, ModelFile]:
    bench = deployed.bench(*overrides)
    return model_files(bench.plan, bench.plan.suite.variant(model))


@pytest.fixture(scope="module")
def exported(deployed: Deployed) -> dict[str, ModelFile]:
    files = files_of(deployed)
    finished(deployed.bench(), *files.values())
    return files


def opened(deployed: Deployed, step: ModelFile) -> OnnxModel:
    return OnnxModel(step.file(deployed.bench().context), threads=1)


def test_float_file_gives_the_logits_of_the_trained_network(deployed: Deployed, exported: dict[str, ModelFile]) -> None:
    bench = deployed.bench()
    x = torch.stack([bench.context.data.splits["test"][index][0] for index in range(20)])
    with torch.no_grad():
        wanted = deployed.model().classifier(bench.context)(x).numpy()
    np.testing.assert_allclose(opened(deployed, exported["onnx"]).logits(x), wanted, atol=1e-4)


def test_deployment_file_takes_pixels_of_any_size(deployed: Deployed, exported: dict[str, ModelFile]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 21, 40, 3), dtype=np.uint8)
    probabilities = opened(deployed, exported["deploy"]).logits(pixels)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("file_format", "precision"), [("onnx", "float32"), ("int8", "int8"), ("fp16", "float16")])
def test_every_precision_says_what_it_is(
    deployed: Deployed, exported: dict[str, ModelFile], file_format: str, precision: str
) -> None:
    metadata = opened(deployed, exported[file_format]).metadata
    assert metadata is not None
    assert metadata.precision == precision
    assert metadata.class_names == deployed.bench().context.data.class_names


def test_proof_lies_beside_the_file_for_clean_and_attacked_images(deployed: Deployed, exported: dict[str, ModelFile]) -> None:
    folder = deployed.bench().context.folder(exported["onnx"])
    proof = read_json(folder / "parity.json")
    assert {name: (row["n"], row["flips_outside_margin"]) for name, row in proof.items()} == {
        "clean": (32, 0),
        "pgd 8/255": (32, 0),
    }


@pytest.mark.parametrize("file_format", ["int8", "fp16"])
def test_smaller_numbers_are_compared_on_clean_and_attacked_images(
    deployed: Deployed, exported: dict[str, ModelFile], file_format: str
) -> None:
    proof = read_json(deployed.bench().context.folder(exported[file_format]) / "parity.json")
    assert {name: row["n"] for name, row in proof.items()} == {"clean": 32, "pgd 8/255": 32}
    assert all(row["flips"] <= 16 for row in proof.values())


def test_int8_is_made_of_training_images_alone(deployed: Deployed, exported: dict[str, ModelFile], tmp_path: Path) -> None:
    context = deployed.bench().context
    training = replace(context.data, splits={"train": context.data.splits["train"]})
    int8, x = exported["int8"], torch.stack([context.data.splits["test"][index][0] for index in range(8)])
    assert isinstance(int8, Int8)
    int8.convert(replace(context, data=training), tmp_path / "int8.onnx", {"clean": x})
    metadata = OnnxModel(tmp_path / "int8.onnx").metadata
    assert metadata is not None
    assert metadata.precision == "int8"


def test_calibration_is_in_the_digest_of_int8_alone(deployed: Deployed) -> None:
    before, after = files_of(deployed), files_of(deployed, "crosscheck.calibration=17")
    assert {name for name in before if before[name].digest != after[name].digest} == {"int8"}


def test_other_weights_are_other_files(deployed: Deployed) -> None:
    before, after = files_of(deployed), files_of(deployed, model="other")
    assert all(before[name].digest != after[name].digest for name in before)


def test_attack_and_resize_are_in_the_digest(deployed: Deployed) -> None:
    deploy = files_of(deployed)["deploy"]
    assert isinstance(deploy, Deploy)
    assert deploy.identity()["resize"] == "squash"
    assert deploy.identity()["samples"]["attack"]["name"] == "pgd"


def test_file_that_computes_something_else_gets_no_name(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_if_trained(self: Onnx, classifier: Classifier, *rest: Any) -> object:
        return original(self, classifier.train(), *rest)

    original = Onnx.export
    monkeypatch.setattr(Onnx, "export", as_if_trained)
    monkeypatch.setattr(Onnx, "VERSION", 1001)
    step = files_of(deployed, model="other")["onnx"]
    with pytest.raises(HarnessError, match="expected a network in eval mode"):
        finished(deployed.bench(), step)
    assert deployed.bench().context.entry(step) is None
