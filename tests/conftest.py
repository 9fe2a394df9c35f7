"""Shared by all tests: quiet, single-purpose fixtures."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

MakeFolder = Callable[..., Path]
SHARED = Path(__file__).parents[1].parent / "shared"
PHOTOGRAPHS = SHARED / "data" / "grocery-vegetables"
WARM_START = SHARED / "weights" / "efficientnet_b0_warmstart.safetensors"


@pytest.fixture(autouse=True)
def _caches_of_the_test(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps every cache that the harness makes inside the test run."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _log_level_of_the_test() -> Iterator[None]:
    """Takes back the level that the command line sets, so that a test sees the same records after any other test."""
    logger = logging.getLogger("harness")
    level = logger.level
    yield
    logger.setLevel(level)


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


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Returns a function that writes `count` small random images a class into `<name>/<split>/<Class>/`."""

    def make(name: str = "photos", splits: Mapping[str, int] | None = None, classes: tuple[str, ...] = ("Leek", "Onion")) -> Path:
        rng = np.random.default_rng(0)
        for split, count in (splits or {"train": 4, "validation": 2, "test": 3}).items():
            for class_name in classes:
                folder = tmp_path / name / split / class_name
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number:02d}.{'png' if number % 2 else 'jpg'}")
        return tmp_path / name

    return make
