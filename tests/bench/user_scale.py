"""A data set of the size that users have, in Kaggle's layout, made up: how soon work on it begins, and how fast it is read."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from harness.cli.console import show_table
from harness.datasets import image_folder
from harness.datasets.cache import CACHE_VARIABLE
from harness.evaluation.batches import batches
from harness.system.seeds import seed_of
from tests.bench.processes import spent_by

CLASSES, SIDE = 15, 224
SHARES = {"train": 15 / 21, "validation": 3 / 21, "test": 3 / 21}
"""Those of the Kaggle Vegetable Image Dataset."""
BATCH, WORKERS = 32, 2
SUITE = """schema_version: 1
name: user_scale
dataset: {{name: image_folder, root: {root}, resolution: 224}}
architecture: {{name: timm, arch: efficientnet_b0}}
models: {{baseline: {{recipe: {{name: standard, epochs: 1, batch_size: 16}}}}}}
threat_model: {{norm: Linf, eps: [2/255]}}
attacks: {{fgsm: {{name: fgsm}}}}
"""
FIRST_BATCH = (
    "import sys; from harness.suites.files import load_suite; data = load_suite(sys.argv[1]).dataset.load(); "
    "from harness.evaluation.batches import load; x = load(data.splits['train'], range(16), 'cpu').x; assert x.shape[0] == 16"
)
"""A program that reads a suite's data and the first batch of its training images."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this part."""
    group = parser.add_argument_group("user-scale")
    group.add_argument("--user-photographs", type=int, default=21_000, help="photographs of the made-up data set")


def show_user_scale(options: argparse.Namespace) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as place:
        root, cache = Path(place) / "photographs", Path(place) / "cache"
        count = make_photographs(root, options.user_photographs)
        suite = Path(place) / "suite.yaml"
        suite.write_text(SUITE.format(root=root))
        commands = {
            "harness validate": ["-m", "harness", "validate", str(suite)],
            "harness plan": ["-m", "harness", "plan", str(suite)],
            "data and first batch": ["-c", FIRST_BATCH, str(suite)],
        }
        rows = []
        for name, command in commands.items():
            for state in ("cold", "warm"):
                if state == "cold":
                    _forget(cache)
                spent = spent_by(command, {CACHE_VARIABLE: str(cache)})
                rows.append((name, state, f"{spent.wall:.1f}", f"{spent.processor:.1f}", f"{spent.memory:,.0f}"))
        show_table(f"{count} photographs of {SIDE}x{SIDE}", ["command", "hashes", "wall s", "processor s", "MiB at most"], rows)
        os.environ[CACHE_VARIABLE] = str(cache)
        show_table("Reading the test split", ["reader", "images a second", "of torchvision's"], _readers(root))


def make_photographs(root: Path, count: int) -> int:
    """Writes JPEGs of soft random shapes into `root/<split>/<class>/`, no two equal; returns how many."""
    jobs = [
        (root / split / f"class {number:02}", seed_of(split, number), round(count * share / CLASSES))
        for split, share in SHARES.items()
        for number in range(CLASSES)
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(_make_class, *zip(*jobs, strict=True)))


def _make_class(folder: Path, seed: int, count: int) -> int:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        shapes = Image.fromarray(generator.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        coarse = shapes.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        grain = generator.normal(0, 8, (SIDE, SIDE, 1))
        pixels = np.clip(np.asarray(coarse, dtype=np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=90)
    return count


def _forget(cache: Path) -> None:
    for file in cache.rglob("*.json"):
        file.unlink()


def _readers(root: Path) -> list[tuple[str, str, str]]:
    """Returns the rates at which the harness and torchvision read a split, in turns, the better of two each."""
    data = image_folder.ImageFolder(root=str(root), resolution=SIDE).load().splits["test"]
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    theirs = ImageFolder(str(root / "test"), transform)
    ways: dict[str, Callable[[], Iterator[int]]] = {
        "torchvision": lambda: (len(x) for x, _ in DataLoader(theirs, BATCH, num_workers=WORKERS)),
        "harness": lambda: (len(batch) for batch in batches(data, BATCH, "cpu")),
    }
    best = dict.fromkeys(ways, 0.0)
    for _ in range(2):
        for name, read in ways.items():
            started = time.perf_counter()
            best[name] = max(best[name], sum(read()) / (time.perf_counter() - started))
    return [(name, f"{rate:,.0f}", f"{rate / best['torchvision']:.2f}") for name, rate in best.items()]
