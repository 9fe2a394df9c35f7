"""Nets with planted faults must be caught; an honest net must stay silent."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.datasets.tensors import TensorSplit
from harness.evaluation.checks.base import Row
from harness.evaluation.checks.ensemble import ENSEMBLE
from harness.evaluation.checks.gradients import GRADIENTS
from harness.evaluation.checks.model import MODEL
from harness.evaluation.checks.neighbours import SAME_BUDGET, SMALLER_BUDGETS
from harness.evaluation.checks.single import SINGLE
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.sanity import Transferred, judge
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.records import Cell, CellResult, ConditionResult, Status, Verdict
from tests.attacks.nets import CLASSES, SIDE, attack_of, images, threat

COUNT = 40
BOUND = ("upper bound: no strong attack at this budget",)
QUICK = {"pgd": {}, "fgsm": {}, "random_noise": {}, "square": {"queries": 60}}


class Honest(nn.Module):
    """A smooth net of two layers over raw pixels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        size = 3 * SIDE * SIDE
        self.first = nn.Parameter(torch.randn(24, size, generator=generator) * 0.3)
        self.last = nn.Parameter(torch.randn(CLASSES, 24, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh((x - 0.5).flatten(1) @ self.first.T) @ self.last.T


class Saturated(Honest):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1e4


class Noisy(Honest):
    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits + 0.3 * torch.randn_like(logits)


class Quantised(Honest):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x * 255).round() / 255)


class Detached(Honest):
    """Predicts by a branch without a gradient; a faint second branch has one that leads nowhere."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach()) + 1e-3 * x.mean(dim=(1, 2, 3))[:, None] * torch.arange(CLASSES)


class Softmax(Honest):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


class Constant(Honest):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1e-6 + torch.tensor([1.0, 0.0, 0.0, 0.0])


def _split(model: nn.Module, *, own_labels: bool = True) -> TensorSplit:
    x = images(COUNT, low=0.0, high=1.0)
    with torch.no_grad():
        labels = (model if own_labels else Honest())(x).argmax(dim=1)
    return TensorSplit(x, labels)


def _results(
    model: nn.Module,
    attacks: Sequence[str] = tuple(QUICK),
    budgets: Sequence[str] = ("2/255", "16/255"),
    *,
    own_labels: bool = True,
) -> tuple[CellResult, ...]:
    split = _split(model, own_labels=own_labels)
    cell = Cell(dataset="d", model="m", arch="a", recipe="r")
    clean = evaluate_clean(model, split)
    rows = [(cell, clean, 0)]
    for name in attacks:
        outcome = sweep(model, split, SweepSettings(attack_of(name, **QUICK[name]), tuple(threat(eps) for eps in budgets)))
        update = {"condition": "attack", "attack": name, "norm": "Linf"}
        rows += [
            (cell.model_copy(update={**update, "eps": Fraction(eps)}), outcome, number) for number, eps in enumerate(budgets)
        ]
    return tuple(
        CellResult(
            cell,
            str(number),
            Status.DONE,
            labels=outcome.labels,
            clean_logits=outcome.clean_logits,
            condition=outcome.conditions[position],
        )
        for number, (cell, outcome, position) in enumerate(rows)
    )


def _judged(model: nn.Module, **arguments: object) -> dict[tuple[str, str], CellResult]:
    return {(row.cell.attack, str(row.cell.eps)): row for row in judge(_results(model, **arguments))}


@pytest.fixture(scope="module")
def honest() -> tuple[CellResult, ...]:
    return _results(Honest())


def test_honest_net_passes_with_upper_bounds_as_the_only_remark(honest: tuple[CellResult, ...]) -> None:
    for row in judge(honest):
        assert row.verdict is Verdict.PASS, row.verdict_reasons
        least = min(_robust(it) for it in honest if it.cell.eps == row.cell.eps)
        bound = BOUND if row.cell.attack not in ("none", "random_noise") else ()
        assert row.verdict_reasons == (*bound, *_lower(row, least))


def _robust(row: CellResult) -> float:
    return 100 * (1 - row.condition.is_adversarial.mean())


def _lower(row: CellResult, least: float) -> tuple[str, ...]:
    """The remark on a net whose own answers are the labels, where a strictly stronger PGD leaves 6 examples of 40 less."""
    return (f"upper bound: pgd leaves {least:.1f}",) if _robust(row) - least >= 100 * 6 / COUNT else ()


def test_remark_goes_once_a_strong_attack_ran(honest: tuple[CellResult, ...]) -> None:
    pgd = next(row for row in honest if row.cell.attack == "pgd")
    condition = replace(pgd.condition, evidence=replace(pgd.condition.evidence, conclusive=True, access="ensemble"))
    strong = replace(pgd, cell=pgd.cell.model_copy(update={"attack": "strong"}), condition=condition)
    judged = {(row.cell.attack, row.cell.eps): row for row in judge((*honest, strong))}
    assert judged["pgd", pgd.cell.eps].verdict_reasons == ()
    assert judged["pgd", Fraction(16, 255)].verdict_reasons == BOUND


@pytest.mark.parametrize("model", [Saturated(), Quantised()], ids=["saturated", "quantised"])
def test_masked_gradients_make_gradient_attacks_invalid(model: nn.Module) -> None:
    judged = _judged(model)
    for name in ("fgsm", "pgd"):
        row = judged[name, "2/255"]
        assert row.verdict is Verdict.INVALID
        assert any("all gradients are zero" in reason for reason in row.verdict_reasons)
        assert any("unlimited budget" in reason for reason in row.verdict_reasons)
    assert judged["square", "16/255"].verdict is Verdict.PASS


def test_random_outputs_are_suspect() -> None:
    row = _judged(Noisy(), attacks=("pgd",), own_labels=False)["pgd", "2/255"]
    assert row.verdict is Verdict.SUSPECT
    assert any("random outputs" in reason for reason in row.verdict_reasons)


def test_detached_branch_is_caught_by_black_box_and_unlimited_budget() -> None:
    row = _judged(Detached())["pgd", "16/255"]
    assert row.verdict is Verdict.SUSPECT
    assert any("a black-box attack (square) breaks" in reason for reason in row.verdict_reasons)
    assert any("unlimited budget" in reason for reason in row.verdict_reasons)


def test_probabilities_instead_of_logits_are_suspect() -> None:
    row = _judged(Softmax(), attacks=("pgd",))["pgd", "2/255"]
    assert row.verdict is Verdict.SUSPECT
    assert any("probabilities" in reason for reason in row.verdict_reasons)


def test_constant_prediction_makes_robustness_invalid_and_accuracy_suspect() -> None:
    judged = _judged(Constant(), attacks=("pgd",), own_labels=False)
    assert judged["pgd", "2/255"].verdict is Verdict.INVALID
    assert judged["none", "None"].verdict is Verdict.SUSPECT
    assert any("one class" in reason for reason in judged["none", "None"].verdict_reasons)


def test_non_finite_logits_are_invalid(honest: tuple[CellResult, ...]) -> None:
    row = _with_condition(honest, "pgd", logits=np.full((COUNT, CLASSES), np.nan, dtype=np.float32))
    assert row.verdict is Verdict.INVALID
    assert f"logits of {COUNT} examples are NaN" in row.verdict_reasons


def _with_condition(honest: tuple[CellResult, ...], attack: str, eps: str = "16/255", **changes: object) -> CellResult:
    """Judges the honest results with one condition changed."""
    position = next(i for i, row in enumerate(honest) if (row.cell.attack, str(row.cell.eps)) == (attack, eps))
    evidence = replace(honest[position].condition.evidence, **changes.pop("evidence", {}))
    changed = replace(honest[position], condition=replace(honest[position].condition, evidence=evidence, **changes))
    return judge((*honest[:position], changed, *honest[position + 1 :]))[position]


@pytest.mark.parametrize(
    ("evidence", "verdict", "text"),
    [
        ({"gradients": 0}, Verdict.INVALID, "dead attack: no backward pass"),
        ({"zero_gradients": COUNT // 10}, Verdict.SUSPECT, "all gradients are zero for 10 % of the correct examples"),
        ({"nonfinite_gradients": COUNT // 10}, Verdict.SUSPECT, "gradients are not finite for 10 %"),
        ({"nonfinite_gradients": 9 * COUNT // 10}, Verdict.INVALID, "gradients are not finite for 90 %"),
        ({"silent_successes": COUNT // 4}, Verdict.SUSPECT, "silent success"),
        ({"violation": 0.5}, Verdict.SUSPECT, "left the ball or [0,1] by 0.5 before it was projected"),
    ],
)
def test_measured_fault_is_named(honest: tuple[CellResult, ...], evidence: dict, verdict: Verdict, text: str) -> None:
    row = _with_condition(honest, "pgd", "2/255", evidence=evidence)
    assert row.verdict is verdict
    assert any(text in reason for reason in row.verdict_reasons)


def test_images_outside_the_ball_are_invalid(honest: tuple[CellResult, ...]) -> None:
    row = _with_condition(honest, "pgd", max_violation=0.01)
    assert row.verdict is Verdict.INVALID
    assert "images outside the ball or [0,1] by 0.01" in row.verdict_reasons


def test_control_that_uses_no_gradients_is_not_called_dead(honest: tuple[CellResult, ...]) -> None:
    assert _with_condition(honest, "random_noise", evidence={"gradients": 0}).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("rival", "text"), [("fgsm", "a single step"), ("square", "a black-box attack"), ("random_noise", "random noise")]
)
def test_weaker_access_that_wins_makes_pgd_suspect(honest: tuple[CellResult, ...], rival: str, text: str) -> None:
    position = next(i for i, row in enumerate(honest) if (row.cell.attack, str(row.cell.eps)) == ("pgd", "16/255"))
    nothing = replace(honest[position].condition, is_adversarial=np.zeros(COUNT, dtype=bool))
    everything = [
        replace(row, condition=replace(row.condition, is_adversarial=np.ones(COUNT, dtype=bool)))
        if (row.cell.attack, str(row.cell.eps)) == (rival, "16/255")
        else row
        for row in honest
    ]
    everything[position] = replace(everything[position], condition=nothing)
    row = judge(everything)[position]
    assert row.verdict is Verdict.SUSPECT
    assert f"{text} ({rival}) breaks {COUNT} examples more" in row.verdict_reasons


def test_success_that_shrinks_with_the_budget_is_suspect(honest: tuple[CellResult, ...]) -> None:
    is_adversarial = next(
        row for row in honest if (row.cell.attack, str(row.cell.eps)) == ("pgd", "2/255")
    ).condition.is_adversarial
    assert is_adversarial.sum() > 10
    row = _with_condition(honest, "pgd", is_adversarial=np.zeros(COUNT, dtype=bool))
    assert f"breaks {is_adversarial.sum()} examples less than at the smaller budget 2/255" in row.verdict_reasons
    assert row.verdict is Verdict.SUSPECT


def test_success_that_stalls_is_suspect(honest: tuple[CellResult, ...]) -> None:
    is_adversarial = next(
        row for row in honest if (row.cell.attack, str(row.cell.eps)) == ("pgd", "2/255")
    ).condition.is_adversarial
    row = _with_condition(honest, "pgd", is_adversarial=is_adversarial)
    assert row.verdict is Verdict.SUSPECT
    assert any("success stays at" in reason for reason in row.verdict_reasons)


def test_success_of_twice_the_steps_where_there_was_none_makes_an_attack_suspect(honest: tuple[CellResult, ...]) -> None:
    few = {"doubled_steps_tried": 8, "doubled_steps_successes": 7}
    row = _with_condition(honest, "pgd", "2/255", evidence=few)
    assert row.verdict is Verdict.SUSPECT
    assert any("twice the steps succeed on 7 of 8 examples without success" in reason for reason in row.verdict_reasons)
    for unlucky in (0, 2):
        none = {**few, "doubled_steps_successes": unlucky}
        assert _with_condition(honest, "pgd", "2/255", evidence=none).verdict is Verdict.PASS


def test_transfer_that_wins_is_suspect(honest: tuple[CellResult, ...]) -> None:
    pgd = next(row for row in honest if row.cell.attack == "pgd")
    weak = replace(pgd, condition=replace(pgd.condition, is_adversarial=np.zeros(COUNT, dtype=bool)))
    transferred = Transferred(pgd.cell, "other", np.ones(COUNT, dtype=bool))
    row = judge((honest[0], weak), transfers=[transferred])[1]
    assert f"adversarials of other break {COUNT} examples more" in row.verdict_reasons
    assert (
        judge((honest[0], pgd), transfers=[replace(transferred, is_adversarial=np.zeros(COUNT, dtype=bool))])[1].verdict
        is Verdict.PASS
    )


def test_chance_level_accuracy_is_suspect(honest: tuple[CellResult, ...]) -> None:
    rng = np.random.default_rng(0)
    clean = replace(honest[0], labels=rng.integers(0, CLASSES, COUNT))
    row = judge((clean,))[0]
    assert row.verdict is Verdict.SUSPECT
    assert any("no better than a constant guess" in reason for reason in row.verdict_reasons)


def test_rows_without_numbers_get_no_verdict() -> None:
    cell = Cell(dataset="d", model="m", arch="a", recipe="r")
    failed = CellResult(cell, "0", Status.FAILED, "out of memory")
    assert judge((failed,))[0].verdict is None


def test_rows_of_other_models_are_not_compared(honest: tuple[CellResult, ...]) -> None:
    pgd = next(row for row in honest if (row.cell.attack, str(row.cell.eps)) == ("pgd", "16/255"))
    weak = replace(pgd, condition=replace(pgd.condition, is_adversarial=np.zeros(COUNT, dtype=bool)))
    others = [replace(row, cell=row.cell.model_copy(update={"model": "other"})) for row in honest]
    assert judge((honest[0], weak, *others))[1].verdict is Verdict.PASS


def test_rows_of_other_poison_rates_are_not_compared(honest: tuple[CellResult, ...]) -> None:
    pgd = next(row for row in honest if (row.cell.attack, str(row.cell.eps)) == ("pgd", "16/255"))
    weak = replace(pgd, condition=replace(pgd.condition, is_adversarial=np.zeros(COUNT, dtype=bool)))
    rates = {"poison": "backdoor", "poison_rate": 0.1}
    others = [replace(row, cell=row.cell.model_copy(update={**rates, "poison_rate": 0.05})) for row in honest]
    own = [replace(row, cell=row.cell.model_copy(update=rates)) for row in (honest[0], weak)]
    assert judge((*own, *others))[1].verdict is Verdict.PASS


def test_the_few_targets_of_a_poison_say_nothing_of_chance(honest: tuple[CellResult, ...]) -> None:
    few = replace(
        honest[0],
        cell=honest[0].cell.model_copy(update={"condition": "target"}),
        labels=np.array([0, 1]),
        clean_logits=np.eye(CLASSES, dtype=np.float32)[:2],
        condition=ConditionResult(None, np.eye(CLASSES, dtype=np.float32)[:2], np.zeros(2, bool), np.zeros(2, np.float32)),
    )
    assert judge((few,))[0].verdict is Verdict.PASS
    assert judge((replace(few, cell=honest[0].cell),))[0].verdict is Verdict.SUSPECT


def test_a_condition_without_attack_is_judged_by_its_own_numbers(honest: tuple[CellResult, ...]) -> None:
    cell = honest[0].cell.model_copy(update={"condition": "corruption", "corruption": "fog", "severity": 3})
    condition = ConditionResult(
        eps=None, logits=honest[0].clean_logits, is_adversarial=np.zeros(COUNT, bool), distance=np.zeros(COUNT, np.float32)
    )
    assert judge((replace(honest[0], cell=cell, condition=condition),))[0].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("lost", "attacked", "expected"),
    [(1, 1, False), (1, 12, False), (2, 20, True), (3, 200, False), (6, 200, True), (12, 1000, False), (20, 1000, True)],
)
def test_silent_success_takes_more_than_one_example_and_more_than_chance(
    honest: tuple[CellResult, ...], lost: int, attacked: int, expected: bool
) -> None:
    pgd = next(row for row in honest if row.cell.attack == "pgd")
    evidence = replace(pgd.condition.evidence, silent_successes=lost, attacked=attacked)
    condition = replace(pgd.condition, evidence=evidence)
    row = judge((replace(pgd, condition=condition),))[0]
    assert any("silent success" in reason for reason in row.verdict_reasons) is expected


def test_every_check_is_on_the_page_that_explains_verdicts() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()
    assert all(
        f"`{check.__name__}`" in page for check in (*SINGLE, *MODEL, *SAME_BUDGET, *GRADIENTS, *SMALLER_BUDGETS, *ENSEMBLE)
    )


def test_rows_are_compared_within_their_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_models(count: int) -> list[CellResult]:
        labels, flags = np.arange(COUNT) % CLASSES, np.arange(COUNT) < 5
        logits = np.eye(CLASSES, dtype=np.float32)[labels]
        cells = [
            Cell(dataset="d", model=f"m{model}", arch="a", recipe="r", condition="attack", attack=attack, norm="Linf", eps=eps)
            for model in range(count)
            for attack in ("pgd", "fgsm")
            for eps in ("1/255", "2/255")
        ]
        condition = ConditionResult(Fraction(1), logits, flags, flags.astype(np.float32))
        return [CellResult(it, str(it), Status.DONE, "", labels, logits, condition) for it in cells]

    looked: list[object] = []
    for name in ("model_key", "budget_key", "attack_key"):
        found = getattr(Row, name).fget
        monkeypatch.setattr(Row, name, property(lambda row, found=found: (looked.append(row), found(row))[1]))
    counts = []
    for count in (4, 8):
        looked.clear()
        judge(of_models(count))
        counts.append(len(looked))
    assert counts[1] == 2 * counts[0], "twice the models take twice the comparisons"
