"""The workload of the measurements: a baseline and a PGD-trained network, trained once and kept in the store, and test images."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.cli.console import progress_display
from harness.datasets.splits import subset
from harness.evaluation.batches import batch_size_for, load
from harness.executors.local import execute
from harness.images import ImageSplit
from harness.planning.plan import plan_of
from harness.records import FINISHED
from harness.spec import parse_spec
from harness.steps.base import Context
from harness.storage.provenance import device_name
from harness.storage.store import Store
from harness.suites.base import Variant
from harness.suites.files import load_suite
from harness.suites.suite import Suite

HERE = Path(__file__).parents[2]
DATA = Path(os.environ.get("HARNESS_DATA", HERE.parent / "shared" / "data"))
PHOTOGRAPHS = DATA / "grocery-vegetables"
WEIGHTS = Path(os.environ.get("HARNESS_WEIGHTS", HERE.parent / "shared" / "weights")) / "efficientnet_b0_warmstart.safetensors"
STORE = Path("results") / ".store"
MODELS = ("baseline", "pgd")
CPU_BATCH = 64
OTHERS = {
    "trades": ({"name": "trades", "optimiser": {"learning_rate": 0.004}}, "test_efficientnet.r160_in1k"),
    "resnet": ({"name": "pgd", "optimiser": {"learning_rate": 0.004}}, "test_resnet.r160_in1k"),
}
"""Small networks for the strong attack beside that of `small_workload`: recipe and architecture by label."""
EPS = ("1/255", "2/255", "4/255", "8/255", "16/255")


@dataclass(frozen=True)
class Workload:
    """Networks by label, and the images that all contenders get."""

    title: str
    networks: Mapping[str, nn.Module]
    split: ImageSplit
    x: Tensor
    """Images (N, 3, H, W), float32 in [0,1], on the device."""
    y: Tensor
    """Labels (N,), on the device."""
    batch: int
    """Images of a batch of the other libraries: 64 on CPUs, on GPUs what the harness chooses by the free memory."""

    @property
    def device(self) -> torch.device:
        """Where all contenders compute."""
        return self.x.device


def workload(count: int, device: torch.device, suite: str | None = None) -> Workload:
    """Returns the models baseline and pgd of a suite; of EfficientNet-B0 on photographs at 128x128 if none is named.

    Photographs and weights lie where the suite grocery_vegetables has them, by default beside the checkout. Where they are
    missing it is a small network on digits.
    """
    if suite is not None:
        return _trained(load_suite(suite), count, device)
    return _trained(_suite(photographs(PHOTOGRAPHS, WEIGHTS) if at_hand() else digits()), count, device)


def at_hand() -> bool:
    """Returns whether the photographs and the weights to start from are there."""
    return PHOTOGRAPHS.is_dir() and WEIGHTS.is_file()


def small_workload(count: int, device: torch.device) -> Workload:
    """Returns a small network on digits, for attacks that take thousands of passes."""
    return _trained(_suite(digits()), count, device)


def other_workloads(count: int, device: torch.device) -> Iterator[Workload]:
    """Yields small networks on digits of other training and architecture than that of `small_workload`, one in each."""
    for label, (recipe, arch) in OTHERS.items():
        models = {label: {"recipe": {**recipe, "epochs": 8, "batch_size": 64, "eps": "16/255", "steps": 3}}}
        fields = {**digits(), "models": models, "architecture": {"name": "timm", "arch": arch}}
        yield _trained(_suite(fields), count, device, labels=(label,))


def _suite(fields: Mapping[str, Any]) -> Suite:
    return parse_spec(Suite, fields, where="bench")


def _trained(suite: Suite, count: int, device: torch.device, *, labels: tuple[str, ...] = MODELS) -> Workload:
    data = suite.dataset.load()
    context = Context(Store(STORE), data, device, progress=progress_display())
    plan = plan_of(suite, data)
    steps = {label: plan.training[Variant(label)] for label in labels}
    reports = execute(steps.values(), context)
    broken = [report.reason for report in reports.values() if report.status not in FINISHED]
    if broken:
        raise SystemExit(f"bench: {broken[0]}")
    split = subset(data.splits["test"], count, seed=0)
    side, arch = suite.dataset.resolution, suite.architecture_of(labels[0]).arch
    networks = {label: step.classifier(context) for label, step in steps.items()}
    examples = load(split, range(len(split)), device)
    batch = CPU_BATCH if device.type == "cpu" else batch_size_for(networks[labels[0]], split, device)
    title = f"{arch} at {side}x{side}, {len(split)} test images, {device_name(device)}"
    return Workload(title, networks, split, examples.x, examples.y, batch)


def photographs(root: Path, weights: Path) -> dict[str, Any]:
    """Returns the suite of EfficientNet-B0 on photographs at 128x128."""
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


def digits() -> dict[str, Any]:
    """Returns the suite of a small network on digits."""
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
