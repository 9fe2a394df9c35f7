"""Networks that look at the whole batch are found out, whatever the data; rounding and random numbers are not taken for it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import harness
from harness.datasets.tensors import TensorSplit
from harness.evaluation.batch_check import batch_dependence
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.sanity import judge
from harness.records import Cell, CellResult, Status, Verdict
from harness.records.evidence import NetworkEvidence
from harness.storage.outcomes import load_outcome, save_outcome
from harness.threat import ThreatModel
from tests.attacks.nets import CLASSES, SIDE, conv_net, images

COUNT = 40


class Net(nn.Module):
    """Two layers, and something behind or before them."""

    def __init__(self, *, before: Callable[[Tensor], Tensor] | None = None, behind: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Parameter(torch.randn(24, 3 * SIDE * SIDE, generator=generator) * 0.3)
        self.last = nn.Parameter(torch.randn(CLASSES, 24, generator=generator))
        self.before, self.behind = before or (lambda x: x), behind or (lambda z: z)

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(torch.tanh((self.before(x) - 0.5).flatten(1) @ self.first.T) @ self.last.T)


class Attention(nn.Module):
    """A transformer's layer over 4 x 4 patches; with `batch_first` forgotten it attends over the images of the batch."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.TransformerEncoderLayer(48, 4, 64, dropout=0.0, batch_first=batch_first)
            self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
        return self.head(self.layer(patches).mean(dim=1))


class Coarse(nn.Module):
    """Computes in bfloat16 and gives float32 back."""

    def __init__(self) -> None:
        super().__init__()
        self.network = conv_net()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.network(x).float() * 1.1


def batch_norm() -> nn.Module:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, CLASSES)).eval()


def found(model: nn.Module, x: Tensor | None = None, *, in_order: bool = False, batch_size: int = 32) -> tuple[float, float]:
    """Returns difference and share of changed classes, with the labels that the network gives the images one by one."""
    model, x = model.eval(), images(COUNT, low=0.0, high=1.0) if x is None else x
    with torch.no_grad():
        y = Net()(x).argmax(dim=1)
        order = y.argsort(stable=True) if in_order else torch.arange(len(x))
        split = TensorSplit(x[order], y[order])
        clean = torch.cat([model(part) for part in x[order].split(batch_size)]).float().numpy()
    evidence = batch_dependence(model, split, clean, batch_size=batch_size)
    return evidence.batch_dependence, evidence.batch_changed / evidence.batch_tried


@pytest.mark.parametrize(
    "model",
    [
        Net(),
        Net(behind=lambda z: 1e4 * z),
        Net(behind=lambda z: 1e3 + z),
        Net(behind=lambda z: z.masked_fill(torch.arange(CLASSES) == 2, -torch.inf)),
        Net(behind=lambda z: z * torch.nan),
        Net(behind=lambda z: z.half().float()),
        conv_net(),
        Coarse(),
        Attention(batch_first=True),
        Net(behind=lambda z: z + 0.1 * torch.randn_like(z)),
        Net(behind=lambda z: z if len(z) > 1 else z[0]),
    ],
    ids=[
        "plain",
        "large",
        "shifted",
        "masked",
        "nan",
        "half",
        "conv",
        "autocast",
        "attention",
        "random",
        "squeezed",
    ],
)
@pytest.mark.parametrize("in_order", [False, True], ids=["mixed", "sorted"])
def test_networks_that_see_one_image_at_a_time_stay_silent(model: nn.Module, in_order: bool) -> None:
    assert found(model, in_order=in_order) == (0.0, 0.0)


def _first_place(z: Tensor) -> Tensor:
    return z + 3 * (torch.arange(len(z)) == 0)[:, None] * torch.eye(CLASSES)[0]


def _late_places(z: Tensor) -> Tensor:
    return z.roll(1, dims=1).where((torch.arange(len(z)) >= 25)[:, None], z)


def _other_classes(z: Tensor) -> Tensor:
    present = nn.functional.one_hot(z.argmax(dim=1), CLASSES).amax(dim=0)
    return z - 4.0 * present * (present.sum() > 1)


def _within_groups(z: Tensor) -> Tensor:
    return torch.cat([part - part.mean(dim=0) if len(part) == 4 else part for part in z.split(4)])


@pytest.mark.parametrize(
    "model",
    [
        Net(behind=lambda z: z - z.mean(dim=0)),
        Net(behind=lambda z: (z - z.mean(dim=0)) / (z.std(dim=0, correction=0) + 1e-6)),
        Net(before=lambda x: x - x.mean(dim=0) + 0.5),
        Net(behind=lambda z: z + z.roll(1, dims=0)),
        Net(behind=lambda z: z if len(z) > 8 else -z),
        Net(behind=_first_place),
        Net(behind=_late_places),
        Net(behind=_other_classes),
        Net(behind=_within_groups),
        batch_norm(),
        Attention(batch_first=False),
    ],
    ids=[
        *("mean of logits", "standardised", "mean of pixels", "neighbour", "size", "first place", "late places"),
        *("other classes", "groups of four", "batch norm", "batch_first forgotten"),
    ],
)
@pytest.mark.parametrize("in_order", [False, True], ids=["mixed", "sorted"])
def test_networks_that_look_at_the_batch_are_found_out(model: nn.Module, in_order: bool) -> None:
    difference, changed = found(model, in_order=in_order)
    assert difference > 0.05
    assert changed > 0


def test_a_small_share_of_the_batch_is_enough() -> None:
    difference, changed = found(Net(behind=lambda z: z + 1e-2 * z.mean(dim=0)))
    assert 1e-3 < difference < 2e-2
    assert changed == 0


def test_what_shows_only_where_attacks_brighten_an_image_is_found_out_too() -> None:
    x = images(COUNT, low=0.0, high=0.9)
    x[:, 0, 0, 0] = 1.0
    difference, changed = found(Net(before=lambda x: x / x.amax()), x)
    assert difference > 0.05
    assert changed == 0


def test_images_that_are_only_passed_alone_are_not_compared() -> None:
    split = TensorSplit(images(4), torch.arange(4))
    model = Net(behind=lambda z: z - z.mean(dim=0))
    assert batch_dependence(model, split, torch.zeros(4, CLASSES).numpy(), batch_size=1) == NetworkEvidence()


@pytest.mark.parametrize("share", [1.0, 1e-2])
def test_clean_row_and_attacks_say_it_once_before_anything_is_attacked(share: float) -> None:
    x = images(COUNT, low=0.0, high=1.0)
    y = Net()(x).argmax(dim=1)
    table = harness.evaluate(
        Net(behind=lambda z: z - share * z.mean(dim=0)),
        (x, y),
        attacks=["random_noise", "pgd"],
        threat_model=ThreatModel(eps="1/1000000"),
    )
    assert set(table.verdict) == {"INVALID" if share == 1 else "SUSPECT"}
    assert all(reasons.count("the other images of a batch change an image's logits") == 1 for reasons in table.verdict_reasons)


def test_stored_outcome_says_it_and_one_of_an_older_version_says_nothing(tmp_path: Path) -> None:
    model, x = Net(behind=lambda z: z - z.mean(dim=0)), images(COUNT, low=0.0, high=1.0)
    outcome = evaluate_clean(model, TensorSplit(x, model(x).argmax(dim=1)))
    save_outcome(outcome, tmp_path / "outcome.safetensors")
    stored = load_outcome(tmp_path / "outcome.safetensors")
    (condition,) = stored.conditions
    older = replace(
        condition.evidence,
        network=replace(condition.evidence.network, batch_tried=0, batch_changed=0, batch_dependence=0.0),
    )
    cell = Cell(dataset="d", model="m", arch="a", recipe="r")
    for evidence, verdict in ((condition.evidence, Verdict.INVALID), (older, Verdict.PASS)):
        row = CellResult(
            cell,
            "0",
            Status.DONE,
            labels=stored.labels,
            clean_logits=stored.clean_logits,
            condition=replace(condition, evidence=evidence),
        )
        assert judge([row])[0].verdict is verdict
