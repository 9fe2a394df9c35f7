"""Which stage of the strong attack found what, and what it says where the last one finds too much."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.datasets.tensors import TensorSplit
from harness.evaluation.checks.ensemble import gradient_stages_fail
from harness.evaluation.sanity import judge
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.records import Cell, CellResult, ConditionResult, Status, Verdict
from harness.records.evidence import Evidence, StageEvidence
from tests.attacks.nets import CLASSES, SIDE, attack_of, images, threat

FEW = {"steps": 5, "fab_steps": 3, "targets": 2, "queries": 60}
NAMES = ["apgd-ce", "apgd-t", "fab", "square"]
COUNT = 40


class Honest(nn.Module):
    """Two smooth layers over raw pixels."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(24, 3 * SIDE * SIDE, generator=generator) * 0.3)
        self.last = nn.Parameter(torch.randn(CLASSES, 24, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh((x - 0.5).flatten(1) @ self.first.T) @ self.last.T


class Surrogate(nn.Module):
    """The honest network's logits with another one's gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.other = Honest(1), Honest(2)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.other(x)
        return logits + (self.net(x) - logits).detach()


def _rows(net: nn.Module, budgets: tuple[str, ...], protocol: str) -> list[CellResult]:
    x = images(COUNT, low=0.0, high=1.0)
    split = TensorSplit(x, net(x).argmax(dim=1))
    threats = tuple(threat(eps) for eps in budgets)
    outcome = sweep(net, split, SweepSettings(attack_of("strong", **FEW), threats, protocol=protocol))
    cell = Cell(dataset="d", model="m", arch="a", recipe="r", condition="attack", attack="strong", norm="Linf", protocol=protocol)
    return [
        CellResult(
            cell.model_copy(update={"eps": it.eps}), "0", Status.DONE, labels=outcome.labels,
            clean_logits=outcome.clean_logits, condition=outcome.conditions[number],
        )
        for number, it in enumerate(threats)
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", ["nested", "independent"])
@pytest.mark.parametrize("net", [Honest(), Surrogate()], ids=["honest", "surrogate"])
def test_net_with_the_gradients_of_another_is_suspect_by_the_strong_attack_alone(net: nn.Module, protocol: str) -> None:
    rows = judge(_rows(net, ("2/255", "5/255"), protocol))
    accused = [any("masked or false gradients: Square breaks" in reason for reason in row.verdict_reasons) for row in rows]
    assert any(accused) is isinstance(net, Surrogate)
    assert all(row.verdict is Verdict.SUSPECT for row, found in zip(rows, accused, strict=True) if found)


def test_successes_of_stages_add_up_to_those_at_each_budget() -> None:
    rows = _rows(Surrogate(), ("2/255", "5/255"), "nested")
    before = 0
    for row in rows:
        stages = row.condition.evidence.stages
        assert list(stages) == NAMES
        assert sum(it.adversarial for it in stages.values()) == row.condition.is_adversarial.sum() - before
        before = int(row.condition.is_adversarial.sum())


@pytest.mark.parametrize("best_of_iterates", [True, False])
def test_stages_of_batches_and_restarts_add_up(best_of_iterates: bool) -> None:
    net = Honest()
    x = images(COUNT, low=0.0, high=1.0)
    inputs = AttackInput(net, x, net(x).argmax(dim=1))
    attack = attack_of("strong", **FEW, restarts=2)
    found = [
        run_attack(attack, inputs.at(rows), threat_model=threat("3/255"), seed=0, best_of_iterates=best_of_iterates)
        for rows in torch.arange(COUNT).split(15)
    ]
    total = sum((it.evidence for it in found), Evidence())
    assert set(total.stages) <= set(NAMES)
    assert sum(it.adversarial for it in total.stages.values()) == sum(int(it.is_adversarial.sum()) for it in found) > 0


def test_attack_without_stages_counts_none() -> None:
    net, x = Honest(), images(4)
    result = run_attack(attack_of("pgd"), AttackInput(net, x, net(x).argmax(dim=1)), threat_model=threat("64/255"), seed=0)
    assert result.evidence.stages == {}


def _planted(stages: Mapping[str, int], *, count: int, eps: str = "8/255", protocol: str = "nested") -> CellResult:
    cell = Cell(
        dataset="d", model="m", arch="a", recipe="r", condition="attack", attack="strong", norm="Linf", eps=Fraction(eps),
        protocol=protocol,
    )  # fmt: skip
    logits = np.eye(2, dtype=np.float32)[[0, 1] * (count // 2)]
    labels = np.array([0, 1] * (count // 2))
    evidence = Evidence(access="ensemble", stages={name: StageEvidence(adversarial=found) for name, found in stages.items()})
    condition = ConditionResult(None, logits, np.zeros(count, bool), np.zeros(count, np.float32), evidence=evidence)
    return CellResult(cell, "0", Status.DONE, labels=labels, clean_logits=logits, condition=condition)


def _accuses(*rows: CellResult) -> bool:
    return any("gradient stages" in reason for reason in judge(rows)[-1].verdict_reasons)


@pytest.mark.parametrize(
    ("stages", "count", "expected"),
    [
        ({"apgd-ce": 3, "square": 1}, 4, False),  # one example alone
        ({"apgd-ce": 30, "square": 5}, 400, False),  # more than 1 %, but perhaps by chance
        ({"apgd-ce": 30, "square": 10}, 400, True),
        ({"apgd-ce": 0, "square": 10}, 400, True),  # gradients that lead to no success
        ({"square": 100}, 400, False),  # nothing ran before it
        ({"apgd-ce": 100, "fab": 30}, 400, False),
        ({}, 400, False),
    ],
)
def test_square_may_break_few_after_the_gradient_stages(stages: dict[str, int], count: int, expected: bool) -> None:
    assert _accuses(_planted(stages, count=count)) is expected


def test_smaller_budgets_count_where_only_active_examples_go_on() -> None:
    for protocol, expected in (("nested", True), ("independent", False)):
        rows = [_planted({"apgd-ce": 9, "square": 5}, count=400, eps=eps, protocol=protocol) for eps in ("4/255", "8/255")]
        assert _accuses(*rows) is expected


def test_examples_of_several_budgets_count_once_where_they_may_be_the_same() -> None:
    few, many = ({"apgd-ce": 9, "square": count} for count in (5, 10))
    for stages, expected in ((few, False), (many, True)):
        rows = [_planted(it, count=400, eps=eps, protocol="bisect") for it, eps in ((stages, "4/255"), (few, "8/255"))]
        assert _accuses(*rows) is expected


def test_check_says_nothing_of_a_row_that_holds_no_stages() -> None:
    row = _planted({}, count=40)
    assert judge([replace(row, cell=row.cell.model_copy(update={"attack": "pgd"}))])[0].verdict is Verdict.PASS
    assert gradient_stages_fail.__doc__
