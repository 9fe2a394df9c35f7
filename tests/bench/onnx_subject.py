"""An ONNX file as the reference model, beside the network it was made from: the same accuracies, and what ONNX Runtime costs."""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import nn

from harness.attacks.base import ATTACKS
from harness.cli.console import show_table
from harness.datasets.base import DATASETS
from harness.datasets.splits import subset
from harness.evaluation.batches import load, spread
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.export.onnx import export_model
from harness.images import ImageData, ImageSplit
from harness.models.adapter import Adapter
from harness.models.classifier import Classifier
from harness.models.finished import finished_classifier
from harness.models.reference import ReferenceClassifier
from harness.models.timm import Timm
from harness.onnxfile.architecture import OnnxFile
from harness.onnxfile.gradient import in_pytorch
from harness.spec import parse_eps
from harness.threat import ThreatModel
from tests.bench.workload import PHOTOGRAPHS, WEIGHTS

SIDE = 224
EPS = ("1/2040", "1/1020", "1/510")
"""Small ones, as the network is not hardened: at 1/255 all contenders leave nothing."""
ATTACKED_WITH: Mapping[str, dict[str, object]] = {"fgsm": {"name": "fgsm"}, "pgd": {"name": "pgd", "steps": 20}}
OWN, TWIN, GRAPH = "PyTorch decides", "ONNX Runtime decides, gradient of the twin", "ONNX Runtime decides, gradient of the graph"
RIDGE = 1e-2
"""Penalty of the head's weights, as a share of the mean square of a feature."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the counts of this part."""
    group = parser.add_argument_group("onnx-subject")
    group.add_argument("--photographs", type=int, default=60, help="test photographs that are attacked")
    group.add_argument("--a-class", type=int, default=8, help="training photographs of each class that the head is fitted to")
    group.add_argument("--sweeps", type=int, default=3, help="sweeps of each contender, in turns")


class Turn(NamedTuple):
    """One sweep."""

    accuracies: tuple[float, ...]
    """On clean images, then robust accuracy at each budget."""
    seconds: float
    """Wall time."""
    processor: float
    """Processor time of all threads, in seconds."""


def show_onnx_subject(options: argparse.Namespace) -> None:
    """Measures and prints."""
    data = DATASETS.parse({"name": "vegetables", "root": str(PHOTOGRAPHS), "resolution": SIDE}).load()
    split = subset(data.splits["test"], options.photographs, 0)
    own = fitted(data, options.a_class)
    with TemporaryDirectory() as folder:
        contenders = _contenders(own, Path(folder), split)
        for label, fields in ATTACKED_WITH.items():
            turns = _in_turns(contenders, split, fields, options.sweeps)
            title = f"{label}, EfficientNet-B0 at {SIDE}x{SIDE}, {len(split)} photographs, {torch.get_num_threads()} threads"
            show_table(title, ["who decides", "seconds", "processor", "of PyTorch's", "clean %", *EPS], _rows(turns))


def fitted(data: ImageData, each: int) -> Classifier:
    """Returns EfficientNet-B0 from the warm start, its head fitted by ridge regression to some photographs of each class."""
    model = Timm(arch="efficientnet_b0", weights=str(WEIGHTS)).build(data.class_names, resolution=SIDE, seed=0)
    train = data.splits["train"]
    labels = torch.as_tensor(train.labels).numpy()
    chosen = spread(torch.arange(len(labels)).numpy(), labels, each * len(data.class_names))
    features, head = [], model.backbone.get_classifier()
    with torch.no_grad():
        for start in range(0, len(chosen), 16):
            x = (load(train, chosen[start : start + 16], "cpu").x - model.mean) / model.std
            features.append(model.backbone.forward_head(model.backbone.forward_features(x), pre_logits=True))
        found = torch.cat([torch.cat(features), torch.ones(len(chosen), 1)], dim=1)
        wanted = nn.functional.one_hot(torch.as_tensor(labels[chosen]), len(data.class_names)).float()
        penalty = RIDGE * len(chosen) * found.square().mean() * torch.eye(found.shape[1])
        weights = torch.linalg.solve(found.T @ found + penalty, found.T @ wanted)
        head.weight.copy_(10 * weights[:-1].T)  # differences of logits as of a network that is sure of its class
        head.bias.copy_(10 * weights[-1])
    return model.eval()


def _contenders(own: Classifier, folder: Path, split: ImageSplit) -> dict[str, nn.Module]:
    path = folder / "model.onnx"
    export_model(own, path, resolution=SIDE, samples={"clean": load(split, range(4), "cpu").x})
    reference = finished_classifier(OnnxFile(weights=str(path)), Adapter(), own.class_names, resolution=SIDE)
    return {OWN: own, TWIN: ReferenceClassifier(reference, own), GRAPH: ReferenceClassifier(reference, in_pytorch(reference))}


def _in_turns(
    contenders: Mapping[str, nn.Module], split: ImageSplit, fields: Mapping[str, object], turns: int
) -> dict[str, list[Turn]]:
    threats = tuple(ThreatModel(eps=parse_eps(eps)) for eps in EPS)
    settings = SweepSettings(ATTACKS.parse(dict(fields)), threats)
    found: dict[str, list[Turn]] = {label: [] for label in contenders}
    for _ in range(turns):
        for label, model in contenders.items():
            found[label].append(_timed(lambda model=model: sweep(model, split, settings, probes=0)))  # type: ignore[misc]
    return found


def _timed(run: Callable[[], object]) -> Turn:
    started, processor = time.perf_counter(), time.process_time()
    outcome = run()
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    right = outcome.clean_logits.argmax(axis=1) == outcome.labels  # type: ignore[attr-defined]
    robust = (float(right.mean()), *(float((right & ~it.is_adversarial).mean()) for it in outcome.conditions))  # type: ignore[attr-defined]
    return Turn(robust, seconds, processor)


def _rows(turns: Mapping[str, list[Turn]]) -> list[list[str]]:
    """Returns medians, and the median of each contender's share of the processor time of PyTorch's sweep in the same turn."""
    rows = []
    for label, own in turns.items():
        shares = [turn.processor / first.processor for turn, first in zip(own, turns[OWN], strict=True)]
        spans = f"{100 * median(shares):.0f} % ({100 * min(shares):.0f} to {100 * max(shares):.0f})"
        times = (median(turn.seconds for turn in own), median(turn.processor for turn in own))
        rows.append([label, *(f"{it:.1f}" for it in times), spans, *(f"{100 * it:.1f}" for it in own[0].accuracies)])
    return rows
