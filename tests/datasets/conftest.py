from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))


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
