"""The protocol `bisect`: nested's result for fewer attacks, and what it skipped is tried."""

from collections import Counter
from contextlib import nullcontext
from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.datasets.tensors import TensorSplit
from harness.errors import HarnessError
from harness.evaluation.bisection import sample_size
from harness.evaluation.sanity import judge
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.records import Cell, CellResult, Outcome, Protocol, Status, Verdict
from harness.threat import Norm
from tests.attacks.nets import LinearNet, attack_of, images, threat

COUNT = 60
BATCH = 16
LINEAR = ("1/1000", "3/1000", "6/1000", "12/1000", "24/1000")
RISING = ("1/255", "2/255", "4/255", "8/255", "16/255")


class AtChosen(Attack):
    """Succeeds on the examples of some brightness at the budgets that are named, on a `Corner`; it notes whom it attacked."""

    ACCESS: ClassVar[str] = "black_box"

    name: Literal["at_chosen"] = "at_chosen"
    wins: tuple[tuple[float, str], ...] = ()
    """(Share of the examples, the brightest first, budget) at which it succeeds."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: object, generator: torch.Generator) -> Tensor:
        eps = threat_model.eps
        ATTACKED[eps] += len(x)
        rank = x[:, 0, 4, 4]
        wins = torch.zeros(len(x), dtype=torch.bool)
        for share, budget in self.wins:
            wins |= (rank < share) & (eps == Fraction(budget))
        x_adv = x.clone()
        x_adv[wins, 0, 0, 0] += float(eps)
        model(x_adv)
        return x_adv


ATTACKED: Counter[Fraction] = Counter()


class Corner(nn.Module):
    """Says class 1 where the first pixel, 0.5 in a clean image, is raised by almost 1/255 or more, up to a limit."""

    def __init__(self, limit: float = 1.0) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        raised = x[:, 0, 0, 0] - 0.5
        inside = torch.minimum(raised - 0.9 / 255, self.limit - raised)
        return torch.stack([torch.zeros_like(inside), 100 * inside], dim=1)


def _ranked(count: int = COUNT) -> TensorSplit:
    """Images with their rank, a share, in one pixel."""
    x = torch.full((count, 3, 8, 8), 0.5)
    x[:, 0, 4, 4] = torch.arange(count) / count
    return TensorSplit(x, torch.zeros(count, dtype=torch.int64))


def _linear() -> tuple[LinearNet, TensorSplit]:
    net, x = LinearNet(), images(COUNT)
    return net, TensorSplit(x, net(x).argmax(dim=1))


def _swept(
    net: nn.Module, split: TensorSplit, attack: Attack, budgets: tuple[str, ...], protocol: Protocol, **fields: object
) -> Outcome:
    norm, targeted = str(fields.pop("norm", "Linf")), "target_class" in fields
    threats = tuple(threat(eps, norm, targeted=targeted) for eps in budgets)
    keep, progress = fields.pop("keep", None), fields.pop("progress", None)
    settings = SweepSettings(attack, threats, protocol=protocol, **fields)
    return sweep(net, split, settings, batch_size=BATCH, probes=0, keep=keep, progress=progress)


def _flags(outcome: Outcome) -> np.ndarray:
    return np.stack([condition.is_adversarial for condition in outcome.conditions])


def _judged(outcome: Outcome) -> list[CellResult]:
    cell = Cell(dataset="d", model="m", arch="a", recipe="r", condition="attack", attack="a", norm="Linf", protocol="bisect")
    return list(
        judge(
            [
                CellResult(
                    cell.model_copy(update={"eps": it.eps}), str(it.eps), Status.DONE, labels=outcome.labels,
                    clean_logits=outcome.clean_logits, condition=it,
                )
                for it in outcome.conditions
            ]
        )
    )  # fmt: skip


STAGES = {"steps": 4, "fab_steps": 2, "targets": 1, "queries": 10}
"""Few of each stage of an ensemble: of a linear net the first one finds all."""


@pytest.mark.parametrize(
    ("attack", "few", "budgets"),
    [
        *(("fgsm", {}, budgets) for budgets in (LINEAR[:1], LINEAR[:2], LINEAR[:4], LINEAR)),
        ("pgd", {"random_start": False}, LINEAR),
        ("strong", STAGES, LINEAR[1:4]),
    ],
)
def test_equals_nested_and_the_closed_form_where_nothing_was_skipped_wrongly(
    attack: str, few: dict[str, object], budgets: tuple[str, ...]
) -> None:
    net, split = _linear()
    nested, found = (_swept(net, split, attack_of(attack, **few), budgets, protocol) for protocol in ("nested", "bisect"))
    distance = net.smallest_distance(split.images, Norm.LINF).numpy()
    eps = np.array([float(Fraction(it)) for it in budgets])
    assert np.abs(distance[None] - eps[:, None]).min() > 1e-5
    assert np.array_equal(_flags(found), distance[None] < eps[:, None])
    assert np.array_equal(_flags(found), _flags(nested))
    assert np.array_equal(found.smallest_eps, nested.smallest_eps)
    assert sum(it.evidence.skipped_successes for it in found.conditions) == 0


class _Robust(nn.Module):
    """Half of the images, the brighter ones, are never misclassified."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.flatten(1).sum(dim=1) * 1e-3 + 1, torch.zeros(len(x))], dim=1)


def test_hardened_net_costs_less_than_half_of_the_passes_of_a_nested_sweep() -> None:
    split = TensorSplit(images(200), torch.zeros(200, dtype=torch.int64))
    nested, found = (_swept(_Robust(), split, attack_of("pgd"), RISING, protocol) for protocol in ("nested", "bisect"))
    assert not _flags(nested).any()
    assert not _flags(found).any()
    passes = [sum(it.forwards + it.backwards for it in outcome.conditions) for outcome in (nested, found)]
    assert passes[1] < 0.5 * passes[0]
    evidence = [it.evidence for it in found.conditions]
    assert [it.attacked - it.skipped_tried + it.skipped for it in evidence] == [200] * len(RISING)
    assert [it.skipped_tried for it in evidence] == [sample_size(it.skipped) for it in evidence]
    assert sum(it.skipped for it in evidence) > 600


def test_every_image_is_inside_its_ball_and_has_the_logits_and_distance_that_are_noted() -> None:
    net, split = _linear()
    kept: dict[Fraction, Tensor] = {Fraction(eps): torch.full_like(split.images, torch.nan) for eps in LINEAR}

    def keep(eps: Fraction, indices: np.ndarray, x: Tensor) -> None:
        kept[eps][indices] = x

    outcome = _swept(net, split, attack_of("pgd"), LINEAR, "bisect", keep=keep)
    for condition in outcome.conditions:
        x, threat_model = kept[condition.eps], threat(condition.eps)
        assert threat_model.violation(x, split.images).max() <= 1e-6
        assert np.allclose(net(x).detach().numpy(), condition.logits, atol=1e-4)
        assert np.allclose(threat_model.distance(x, split.images).numpy(), condition.distance, atol=1e-6)
        assert np.array_equal(net(x).argmax(dim=1).numpy() != outcome.labels, condition.is_adversarial)
    smaller, larger = _flags(outcome)[:-1], _flags(outcome)[1:]
    assert (smaller <= larger).all()


def test_success_at_a_smaller_budget_that_fails_at_larger_ones_is_reported_and_ends_in_the_nested_result() -> None:
    split, attack = _ranked(), AtChosen(wins=((0.5, "2/255"), (0.25, "16/255")))
    nested, found = (_swept(Corner(), split, attack, RISING, protocol) for protocol in ("nested", "bisect"))
    assert np.array_equal(_flags(nested), _flags(found))
    assert np.array_equal(nested.smallest_eps, found.smallest_eps)
    assert _flags(found).sum(axis=1).tolist() == [0, 30, 30, 30, 30]
    evidence = [it.evidence for it in found.conditions]
    assert (evidence[1].skipped, evidence[1].skipped_tried, evidence[1].skipped_successes) == (60, 60, 30)
    assert (evidence[0].skipped, evidence[0].skipped_tried, evidence[0].skipped_successes) == (60, sample_size(60), 0)
    rows = _judged(found)
    assert "bisect: 0 of 8 skipped attacks tried again succeed, of 60 skipped" in rows[0].verdict_reasons
    assert "bisect: 30 of 60 skipped attacks tried again succeed, all that were skipped" in rows[1].verdict_reasons
    assert rows[1].verdict is Verdict.SUSPECT


def test_image_of_a_larger_budget_that_is_adversarial_in_a_smaller_ball_counts_there_without_an_attack() -> None:
    # raised by 4/255 the first pixel is too high for the other class, projected to 2/255 it is not, at 1/255 neither
    split, attack = _ranked(BATCH), AtChosen(wins=((1.0, "4/255"),))
    ATTACKED.clear()
    outcome = _swept(Corner(limit=3 / 255), split, attack, RISING, "bisect")
    assert _flags(outcome).all(axis=1).tolist() == [True] * 5
    assert np.allclose(outcome.smallest_eps, 1 / 255)
    assert dict(ATTACKED) == {Fraction(4, 255): BATCH}
    assert [it.evidence.skipped for it in outcome.conditions] == [0] * 5


def test_part_that_is_tried_is_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.evaluation import bisection

    drawn: list[list[int]] = []
    load = bisection.load
    monkeypatch.setattr(bisection, "load", lambda split, indices, device: drawn.append(indices) or load(split, indices, device))
    for seed in (1, 1, 2):
        _swept(Corner(), _ranked(200), AtChosen(), RISING[:2], "bisect", seed=seed)
    assert [len(it) for it in drawn] == [16, 4] * 3
    assert drawn[:2] == drawn[2:4] != drawn[4:]
    assert sorted(drawn[0] + drawn[1]) != list(range(20))


def test_batches_are_full_across_the_data_set() -> None:
    sizes: list[int] = []

    class Sized(AtChosen):
        def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: object, generator: torch.Generator) -> Tensor:
            sizes.append(len(x))
            return super().perturb(model, x, y, threat_model=threat_model, generator=generator)

    attack = Sized(wins=((0.3, "1/255"), (0.3, "2/255"), (0.5, "4/255"), (0.6, "8/255"), (0.6, "16/255")))
    outcome = _swept(Corner(), _ranked(240), attack, RISING, "bisect")
    assert _flags(outcome).sum(axis=1).tolist() == [72, 72, 120, 144, 144]
    assert max(sizes) == BATCH
    assert len(sizes) <= sum(sizes) / BATCH + 2 * len(RISING)  # what is left at each budget, and the recheck's


@pytest.mark.parametrize("attack", ["pgd", "fgsm"])
def test_targeted_attacks_leave_the_target_class_out(attack: str) -> None:
    net, split = _linear()
    target = int(split.labels[0])
    fields, budgets = {"random_start": False} if attack == "pgd" else {}, LINEAR
    nested, found = (
        _swept(net, split, attack_of(attack, **fields), budgets, protocol, target_class=target)
        for protocol in ("nested", "bisect")
    )
    assert np.array_equal(_flags(nested), _flags(found))
    assert _flags(found).any()
    assert not _flags(found)[:, np.asarray(split.labels) == target].any()


def test_attack_that_seeks_the_smallest_perturbation_runs_once_as_in_a_nested_sweep() -> None:
    net, split = _linear()
    nested, found = (
        _swept(net, split, attack_of("deepfool"), ("1/10", "3/10"), protocol, norm="L2") for protocol in ("nested", "bisect")
    )
    assert [it.evidence for it in nested.conditions] == [it.evidence for it in found.conditions]
    assert np.array_equal(_flags(nested), _flags(found))


def test_library_alone_is_not_bisected() -> None:
    with pytest.raises(
        HarnessError, match="protocol: expected nested or independent where best_of_iterates is false, got bisect"
    ):
        SweepSettings(attack_of("pgd"), (threat(),), protocol="bisect", best_of_iterates=False).check()


def test_progress_of_the_search_ends_at_examples_times_budgets() -> None:
    net, split = _linear()
    done: Counter[str] = Counter()
    totals: dict[str, float] = {}

    class Counting:
        def task(self, title: str, total: float, *, unit: str) -> object:
            totals[title] = total
            return nullcontext(lambda count, note: done.update({title: count}))

    _swept(net, split, attack_of("pgd", steps=3), LINEAR, "bisect", progress=Counting())
    assert totals["pgd"] == done["pgd"] == COUNT * len(LINEAR)
    assert totals["pgd, skipped"] == done["pgd, skipped"] > 0
