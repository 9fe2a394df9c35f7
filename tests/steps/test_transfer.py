"""What the adversarials of one model do to another."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.datasets.tensors import TensorSplit
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.executors.base import StepReport
from harness.images import ImageData
from harness.models.layout import Inference
from harness.planning.plan import PlannedTransfer
from harness.records import Cell, CellResult, ConditionResult, Status
from harness.running.finished import FinishedRun
from harness.running.transfers import transfers_of
from harness.steps.base import Context, Examples, ModelStep, Step
from harness.steps.evaluate import Sweep
from harness.steps.transfer import Transfer
from harness.storage.store import Store
from tests.attacks.nets import LinearNet, attack_of, images, threat

COUNT = 40
WRONG = [3, 17, 30]
EPS = "0.05"


class Given(ModelStep):
    """A model that needs no training, and notes the images that it is shown."""

    KIND = "given"
    VERSION = 1

    def __init__(self, label: str, net: nn.Module) -> None:
        self.label, self.net = label, net
        self.seen: list[Tensor] = []

    title = "given"
    inputs: Mapping[str, Step] = {}

    def identity(self) -> Mapping[str, Any]:
        return {"label": self.label}

    def run(self, context: Context, folder: Path) -> None:
        raise AssertionError("the network is given, and never trained")

    def classifier(self, context: Context) -> nn.Module:
        self.net.register_forward_hook(lambda _, given, out: self.seen.append(given[0].clone()))
        return self.net


@pytest.fixture
def source() -> Given:
    return Given("source", LinearNet())


@pytest.fixture
def target() -> Given:
    """Much like the source."""
    net = LinearNet()
    with torch.no_grad():
        noise = torch.randn(net.head.weight.shape, generator=torch.Generator().manual_seed(5)) * 0.1
        net.head.weight += noise
        net.head.bias -= noise.sum(dim=1) * 0.5
    return Given("target", net)


@pytest.fixture
def split(source: Given) -> TensorSplit:
    """Images of which the source gets three wrong."""
    x = images(COUNT)
    y = source.net(x).argmax(dim=1)
    y[WRONG] = 1 - y[WRONG]
    return TensorSplit(x, y)


@pytest.fixture
def context(split: TensorSplit, tmp_path: Path) -> Context:
    data = ImageData("made", ("a", "b", "c", "d"), {"test": split}, "0" * 64, 0)
    return Context(Store(tmp_path / "store"), data, torch.device("cpu"))


def _transfer(source: Given, target: Given, attack: Attack | None = None, eps: str = EPS) -> Transfer:
    attack = attack or attack_of("pgd")
    step = Sweep(source, Examples("test", None, 0), attack.name, SweepSettings(attack, (threat(eps),)))
    return Transfer(step, {"target": target})


def test_images_of_the_last_iterate_fool_more_than_the_first_beyond_the_sources_boundary(
    source: Given, target: Given, split: TensorSplit, context: Context, tmp_path: Path
) -> None:
    found = torch.zeros_like(split.images)

    def keep(eps: Fraction, indices: np.ndarray, x: Tensor) -> None:
        found[indices] = x

    sweep(source.net, split, SweepSettings(attack_of("pgd"), (threat(EPS),)), keep=keep)
    first = float((target.net(found).argmax(dim=1).numpy() != split.labels).mean())
    step = _transfer(source, target)
    step.run(context, tmp_path)
    last = torch.cat(target.seen)
    assert (target.net(last).argmax(dim=1).numpy() != split.labels).mean() >= first + 0.1


def test_examples_that_the_source_gets_wrong_are_attacked_too(
    source: Given, target: Given, split: TensorSplit, context: Context, tmp_path: Path
) -> None:
    _transfer(source, target).run(context, tmp_path)
    change = (torch.cat(target.seen)[:, None] - split.images[None]).abs().flatten(2).amax(dim=2)
    assert (change > 0).all()


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "square", "fab", "strong", "art-autopgd"])
def test_images_that_do_not_fool_the_source_are_still_the_attacks_own(
    source: Given, target: Given, split: TensorSplit, context: Context, name: str
) -> None:
    few = {"steps": 4, "fab_steps": 3, "targets": 2, "queries": 12}
    attack = attack_of(name)
    attack = attack.model_copy(update={key: value for key, value in few.items() if key in type(attack).model_fields})
    folder = context.store.root / "out"
    folder.mkdir(parents=True)
    _transfer(source, target, attack, eps="1/255").run(context, folder)
    found = torch.cat(target.seen)
    change = (found[:, None] - split.images[None]).abs().flatten(2).amax(dim=2)
    moved, row = change.min(dim=1)
    correct = source.net(found).argmax(dim=1) == torch.from_numpy(split.labels)[row]
    assert correct.float().mean() > 0.3
    assert (moved[correct] > 1e-4).all()
    assert (moved <= 1 / 255 + 1e-6).all()


def test_settings_of_the_models_own_evaluation_do_not_reach_the_transfer(source: Given, target: Given) -> None:
    step = _transfer(source, target)
    plain = Transfer(step.crafting, step.targets)
    assert plain.digest == step.digest
    other = Transfer(
        replace(step.sweep, settings=replace(step.sweep.settings, inference=Inference(precision="bfloat16"))), step.targets
    )
    assert other.sweep.digest != step.sweep.digest
    assert other.digest == step.digest


def _results(model: str, labels: np.ndarray, clean: np.ndarray) -> list[CellResult]:
    cell = Cell(dataset="made", model=model, arch="linear", recipe="given")
    attacked = {"condition": "attack", "attack": "pgd", "norm": "Linf", "eps": Fraction(EPS)}
    condition = ConditionResult(None, clean, np.zeros(len(labels), bool), np.zeros(len(labels), np.float32))
    return [
        CellResult(it, str(number), Status.DONE, labels=labels, clean_logits=clean, condition=condition)
        for number, it in enumerate((cell, cell.model_copy(update=attacked)))
    ]


def test_success_counts_over_what_the_target_gets_right_and_the_source_is_no_evidence_against_itself() -> None:
    labels = np.array([0, 0, 1, 1])
    clean = np.eye(2, dtype=np.float32)[[0, 0, 1, 0]]
    wrong = np.array([True, False, True, True])
    step = SimpleNamespace(digest="d", wrong=lambda _: {"source": wrong, "target": wrong})
    plan = SimpleNamespace(transfers=[PlannedTransfer("source", "pgd", threat(EPS), step)])
    results = [*_results("source", labels, clean), *_results("target", labels, clean)]
    rows, evidence = transfers_of(FinishedRun(plan, None, {"d": StepReport(Status.DONE)}), results)
    assert [(row.source, row.target, row.accuracy) for row in rows] == [("source", "source", 0.25), ("source", "target", 0.25)]
    assert rows[1].attack_success_rate == pytest.approx(2 / 3)
    assert [(it.cell.model, it.source, it.is_adversarial.tolist()) for it in evidence] == [
        ("target", "source", [True, False, True, False])
    ]
    assert transfers_of(FinishedRun(plan, None, {"d": StepReport(Status.FAILED)}), results) == ((), ())
