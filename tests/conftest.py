"""Shared by all tests: quiet, single-purpose fixtures."""

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).parents[1].parent / "shared"
PHOTOGRAPHS = SHARED / "data" / "grocery-vegetables"
WARM_START = SHARED / "weights" / "efficientnet_b0_warmstart.safetensors"


@pytest.fixture(autouse=True)
def _caches_of_the_test(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps every cache that the harness makes inside the test run."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """Small nets run faster without a thread pool, and test runs stay kind to the machine."""
    torch.set_num_threads(1)


@pytest.fixture
def photographs() -> Path:
    """The folder of real photographs, in the Kaggle layout."""
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("needs the photographs in ../shared/data/grocery-vegetables")
    return PHOTOGRAPHS


@pytest.fixture
def warm_start_weights() -> Path:
    """A file of EfficientNet-B0 weights."""
    if not WARM_START.is_file():
        pytest.skip("needs the weights in ../shared/weights")
    return WARM_START
