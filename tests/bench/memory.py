"""What EfficientNet-B0 at 224x224 takes of memory and time, in training in batches of 16 by ways to take less, and in scoring."""

import argparse
import tempfile
from pathlib import Path

import yaml

from harness.cli.console import show_table
from harness.datasets.cache import CACHE_VARIABLE
from tests.bench.processes import Spent, spent_by
from tests.bench.user_scale import SIDE, make_photographs

PHOTOGRAPHS, BATCH = 200, 16
WAYS: dict[str, dict[str, object]] = {
    "as it is": {},
    "activation_checkpointing": {"activation_checkpointing": True},
    "micro_batch 4": {"micro_batch": 4},
}
TRAINING = """
import sys, torch
from pathlib import Path
from harness.executors.local import execute
from harness.planning.plan import plan_of
from harness.steps.base import Context
from harness.storage.store import Store
from harness.suites.files import load_suite
suite, store = load_suite(sys.argv[1]), Store(Path(sys.argv[2]))
data = suite.dataset.load()
execute(plan_of(suite, data).training.values(), Context(store, data, torch.device("cpu")))
"""
"""A program that trains the models of a suite, and does no more."""
PLAIN = f"""
import timm, torch
model = timm.create_model("efficientnet_b0", num_classes=15).train()
optimiser = torch.optim.AdamW(model.parameters())
for _ in range(int({PHOTOGRAPHS} * 15 / 21) // {BATCH}):
    x, y = torch.rand({BATCH}, 3, {SIDE}, {SIDE}), torch.randint(0, 15, ({BATCH},))
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimiser.step()
"""
"""A loop of nothing but PyTorch and timm, over as many batches of random numbers."""


def show_memory(options: argparse.Namespace) -> None:
    """Measures and prints; each way in a process of its own."""
    del options
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, variables = folder / "photographs", {CACHE_VARIABLE: str(folder / "cache")}
        count = make_photographs(root, PHOTOGRAPHS)
        found = {"a plain loop": spent_by(["-c", PLAIN], variables)}
        for number, (way, fields) in enumerate(WAYS.items()):
            suite, store = folder / f"{number}.yaml", str(folder / f"store {number}")
            suite.write_text(yaml.safe_dump(_suite(root, fields)))
            found[f"training, {way}"] = spent_by(["-c", TRAINING, str(suite), store], variables)
            scoring = ["run", str(suite), "--store", store, "--out", str(folder / f"results {number}")]
            found[f"scoring, {way}"] = spent_by(["-m", "harness", *scoring], variables)
    title = f"One epoch of EfficientNet-B0, {count} photographs of {SIDE}x{SIDE} in all splits, batches of {BATCH}; then scoring"
    show_table(title, ["way", "MiB at most", "wall s", "processor s"], [_row(way, spent) for way, spent in found.items()])


def _suite(root: Path, fields: dict[str, object]) -> dict[str, object]:
    recipe = {"name": "standard", "epochs": 1, "batch_size": BATCH, **fields}
    return {
        "schema_version": 1,
        "name": "memory",
        "dataset": {"name": "image_folder", "root": str(root), "resolution": SIDE},
        "architecture": {"name": "timm", "arch": "efficientnet_b0"},
        "models": {"baseline": {"recipe": recipe}},
        "threat_model": {"norm": "Linf", "eps": ["2/255"]},
        "attacks": {},
    }


def _row(way: str, spent: Spent) -> tuple[str, ...]:
    return way, f"{spent.memory:,.0f}", f"{spent.wall:.0f}", f"{spent.processor:.0f}"
