"""What is measured on: a baseline and a PGD-trained network, trained once and kept in the store, and test images."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.console import progress_display
from harness.datasets.splits import subset
from harness.executors.local import execute
from harness.images import ImageSplit
from harness.plan import plan_of
from harness.records import FINISHED
from harness.spec import parse_spec
from harness.steps.base import Context
from harness.store import Store
from harness.suite import Suite, Variant

HERE = Path(__file__).parents[2]
DATA = Path(os.environ.get("HARNESS_DATA", HERE.parent / "shared" / "data"))
PHOTOGRAPHS = DATA / "grocery-vegetables"
WEIGHTS = Path(os.environ.get("HARNESS_WEIGHTS", HERE.parent / "shared" / "weights")) / "efficientnet_b0_warmstart.safetensors"
STORE = Path("results") / ".store"
EPS = ("1/255", "2/255", "4/255", "8/255", "16/255")


@dataclass(frozen=True)
class Subjects:
    """Networks by label, and the images that all contenders get."""

    title: str
    networks: Mapping[str, nn.Module]
    split: ImageSplit
    x: Tensor
    """Images (N, 3, H, W), float32 in [0,1]."""
    y: Tensor
    """Labels (N,)."""


def subjects(count: int) -> Subjects:
    """Returns EfficientNet-B0 on photographs at 128x128 where they are at hand, else a small network on digits.

    Photographs and weights lie where the suite grocery_vegetables has them, by default beside the checkout.
    """
    return _trained(_photographs(PHOTOGRAPHS, WEIGHTS) if PHOTOGRAPHS.is_dir() and WEIGHTS.is_file() else _digits(), count)


def small_subjects(count: int) -> Subjects:
    """Returns a small network on digits, for attacks that take thousands of passes."""
    return _trained(_digits(), count)


def _trained(fields: Mapping[str, Any], count: int) -> Subjects:
    suite = parse_spec(Suite, fields, where="bench")
    data = suite.dataset.load()
    context = Context(Store(STORE), data, torch.device("cpu"), progress=progress_display())
    plan = plan_of(suite, data)
    steps = {label: plan.training[Variant(label)] for label in suite.models}
    reports = execute(steps.values(), context)
    broken = [report.reason for report in reports.values() if report.status not in FINISHED]
    if broken:
        raise SystemExit(f"bench: {broken[0]}")
    split = subset(data.splits["test"], count, seed=0)
    side, arch = suite.dataset.resolution, suite.architecture_of("baseline").arch
    title = f"{arch} at {side}x{side}, {len(split)} test images"
    return Subjects(
        title,
        {label: step.classifier(context) for label, step in steps.items()},
        split,
        torch.stack([split[index][0] for index in range(len(split))]),
        torch.from_numpy(split.labels.copy()),
    )


def _photographs(root: Path, weights: Path) -> dict[str, Any]:
    standard = {"name": "standard", "epochs": 6, "batch_size": 32}
    hardened = {"name": "pgd", "eps": "4/255", "steps": 3, "epochs": 6, "batch_size": 32}
    return {
        **_grid(standard, hardened),
        "dataset": {"name": "image_folder", "root": str(root), "resolution": 128},
        "architecture": {
            "name": "timm",
            "arch": "efficientnet_b0",
            "weights": str(weights),
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
    }


def _digits() -> dict[str, Any]:
    standard = {"name": "standard", "epochs": 8, "batch_size": 64, "optimiser": {"learning_rate": 0.004}}
    hardened = {**standard, "name": "pgd", "eps": "16/255", "steps": 3}
    return {
        **_grid(standard, hardened),
        "dataset": {"name": "digits", "resolution": 32},
        "architecture": {"name": "timm", "arch": "test_efficientnet.r160_in1k"},
    }


def _grid(standard: Mapping[str, Any], hardened: Mapping[str, Any]) -> dict[str, Any]:
    models = {"baseline": {"recipe": standard}, "pgd": {"recipe": hardened}}
    attacks = {"pgd": {"name": "pgd", "steps": 10}}
    return {"name": "bench", "models": models, "attacks": attacks, "threat_model": {"norm": "Linf", "eps": list(EPS)}}
