"""Targeted sweeps: which examples are adversarial, which are not attacked, and what the sanity checks make of the rest."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.datasets.tensors import TensorSplit
from harness.evaluation.checks.base import Row
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.sanity import judge
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.records import Cell, CellResult, Outcome, Status, Verdict
from harness.threat import ThreatModel
from tests.attacks.nets import attack_of, threat

TARGET = 2
BUDGETS = tuple(threat(eps, targeted=True) for eps in ("4/255", "16/255", "64/255"))
CELL = Cell(dataset="d", model="m", arch="a", recipe="r", poison="backdoor", poison_rate=0.1, target_class="c")
"""The clean row of a model whose poison aims at the class that the attack aims at too."""


class Away(Attack):
    """Makes every image of one brightness: it ends in the class that the net gives to that."""

    TARGETED = True
    name: Literal["away"] = "away"
    brightness: float = 1.0

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        return torch.full_like(x, self.brightness)


def rows_of(outcome: Outcome, threats: Sequence[ThreatModel], attack: str, **fields: object) -> list[CellResult]:
    return [
        CellResult(
            CELL.model_copy(update={"condition": "attack", "attack": attack, "norm": "Linf", "eps": it.eps, **fields}),
            f"{attack} {it.eps} {fields}",
            Status.DONE,
            labels=outcome.labels,
            clean_logits=outcome.clean_logits,
            condition=condition,
        )
        for it, condition in zip(threats, outcome.conditions, strict=True)
    ]


@pytest.mark.parametrize("protocol", ["nested", "independent"])
def test_only_the_target_class_is_a_success_and_its_own_examples_are_spared(
    net: nn.Module, split: TensorSplit, protocol: Literal["nested", "independent"]
) -> None:
    images = {it.eps: torch.zeros_like(split.images) for it in BUDGETS}

    def keep(eps: Fraction, indices: np.ndarray, x: Tensor) -> None:
        images[eps][indices] = x

    outcome = sweep(
        net, split, SweepSettings(attack_of("pgd"), BUDGETS, protocol=protocol, target_class=TARGET), batch_size=16, keep=keep
    )
    own = outcome.labels == TARGET
    initially_wrong = outcome.clean_logits.argmax(axis=1) != outcome.labels
    assert outcome.conditions[-1].is_adversarial.any()
    for it, condition in zip(BUDGETS, outcome.conditions, strict=True):
        predicted = net(images[it.eps]).argmax(dim=1).numpy()
        assert (predicted[condition.is_adversarial] == TARGET).all()
        assert not condition.is_adversarial[own | initially_wrong].any()
        assert torch.equal(images[it.eps][own], split.images[own])
        assert condition.evidence.target_class == TARGET


def test_image_in_another_wrong_class_is_no_success(net: nn.Module, split: TensorSplit) -> None:
    full = threat("1", targeted=True)
    reached = int(net(torch.ones_like(split.images[:1])).argmax())
    for target in {TARGET, reached}:
        outcome = sweep(net, split, SweepSettings(Away(), (full,), target_class=target))
        correct = outcome.clean_logits.argmax(axis=1) == outcome.labels
        wanted = correct & (outcome.labels != target) if target == reached else np.zeros_like(correct)
        assert np.array_equal(outcome.conditions[0].is_adversarial, wanted)


def test_without_watching_success_counts_on_the_same_examples(net: nn.Module, split: TensorSplit) -> None:
    outcome = sweep(
        net,
        split,
        SweepSettings(attack_of("pgd"), BUDGETS[2:], protocol="independent", best_of_iterates=False, target_class=TARGET),
    )
    is_adversarial = outcome.conditions[0].is_adversarial
    assert is_adversarial.any()
    assert (outcome.conditions[0].logits.argmax(axis=1)[is_adversarial] == TARGET).all()
    assert not is_adversarial[outcome.labels == TARGET].any()


def test_untargeted_sweep_has_no_target_in_its_evidence(net: nn.Module, split: TensorSplit) -> None:
    outcome = sweep(net, split, SweepSettings(attack_of("fgsm"), (threat(),)))
    assert outcome.conditions[0].evidence.target_class is None


def test_success_rate_and_active_examples_leave_out_the_target_class(net: nn.Module, split: TensorSplit) -> None:
    outcome = sweep(net, split, SweepSettings(attack_of("pgd"), BUDGETS[2:], target_class=TARGET))
    row = Row.of(rows_of(outcome, BUDGETS[2:], "pgd", targeted=True)[0])
    assert row is not None
    eligible = row.correct & (outcome.labels != TARGET)
    assert row.active == (eligible & ~row.condition.is_adversarial).sum() < (row.correct & ~row.condition.is_adversarial).sum()
    assert row.success_rate == pytest.approx(row.condition.is_adversarial.sum() / eligible.sum())


def test_attack_that_leaves_only_the_target_class_standing_is_not_dead(net: nn.Module, split: TensorSplit) -> None:
    full = threat("1", targeted=True)
    reached = int(net(torch.ones_like(split.images[:1])).argmax())
    outcome = sweep(net, split, SweepSettings(Away(), (full,), target_class=reached))
    (judged,) = judge(rows_of(outcome, [full], "away", targeted=True))
    assert outcome.conditions[0].evidence.gradients == 0
    assert not [reason for reason in judged.verdict_reasons if "dead" in reason]


def test_targeted_and_untargeted_rows_are_no_rivals_even_where_a_poison_has_the_same_target(
    net: nn.Module, split: TensorSplit
) -> None:
    clean = evaluate_clean(net, split, probes=0)
    start = CellResult(
        CELL, "clean", Status.DONE, labels=clean.labels, clean_logits=clean.clean_logits, condition=clean.conditions[0]
    )
    plain = tuple(threat(it.eps) for it in BUDGETS)
    untargeted = rows_of(sweep(net, split, SweepSettings(attack_of("fgsm"), plain), probes=0), plain, "fgsm")
    aimed = sweep(net, split, SweepSettings(attack_of("pgd", steps=1), BUDGETS, target_class=TARGET), probes=0)
    rows = judge([start, *untargeted, *rows_of(aimed, BUDGETS, "pgd", targeted=True)])
    lead = [reason for row in rows for reason in row.verdict_reasons if "a single step (fgsm)" in reason]
    assert max(row.condition.is_adversarial.sum() for row in untargeted) > aimed.conditions[-1].is_adversarial.sum() + 5
    assert lead == []
    aims = [row for row in rows if row.cell.targeted]
    assert {row.verdict for row in aims} == {Verdict.PASS}
    assert {row.verdict_reasons for row in aims} == {("upper bound: no strong targeted attack at this budget",)}
    as_rivals = judge([replace(row, cell=row.cell.model_copy(update={"targeted": False})) for row in rows])
    assert [reason for row in as_rivals for reason in row.verdict_reasons if "a single step (fgsm)" in reason]
