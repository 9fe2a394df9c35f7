"""A small classifier and its exported files, made once: an export takes seconds."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from harness.export.onnx import export_deploy, export_model
from harness.export.parity import Parity
from harness.models.classifier import Classifier

SIDE = 32
CLASS_NAMES = ("leek", "onion", "garlic")


def small_classifier() -> Classifier:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 16, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    nn.init.normal_(backbone[-1].weight)
    return Classifier(backbone, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), class_names=CLASS_NAMES).eval()


def images(n: int, seed: int = 0) -> Tensor:
    """Smooth random images (n, 3, SIDE, SIDE): noise alone would all fall into one class."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear").clamp(0, 1)


def pixels(n: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


class Exported(NamedTuple):
    classifier: Classifier
    path: Path
    parities: dict[str, Parity]


@pytest.fixture
def classifier() -> Classifier:
    return small_classifier()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    classifier, path = small_classifier(), tmp_path_factory.mktemp("exported") / "model.onnx"
    classifier.backbone[0].weight.requires_grad_(False)
    samples = {"clean": images(40), "pgd 8/255": images(5)}
    return Exported(classifier, path, export_model(classifier, path, resolution=SIDE, samples=samples))


@pytest.fixture(scope="session")
def model_file(exported: Exported) -> Path:
    return exported.path


@pytest.fixture(scope="session", params=["squash", "crop"])
def deploy_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "deploy.onnx"
    samples = {"small": pixels(2, 20, 31), "large": pixels(2, 90, 50)}
    export_deploy(small_classifier(), path, resolution=SIDE, resize=request.param, samples=samples)
    return path
