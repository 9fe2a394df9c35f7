"""Plug-ins and nets that misbehave go through a whole sweep: the verdict names the fault, and spares who only looks guilty."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.datasets.tensors import TensorSplit
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.sanity import judge
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.records import Cell, CellResult, Outcome, Protocol, Status, Verdict
from harness.threat import ThreatModel
from tests.attacks.nets import CLASSES, SIDE, attack_of, images, threat

COUNT = 60
BUDGETS = ("2/255", "8/255")


class Smooth(nn.Module):
    """Two layers over raw pixels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Parameter(torch.randn(24, 3 * SIDE * SIDE, generator=generator) * 0.3)
        self.last = nn.Parameter(torch.randn(CLASSES, 24, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh((x - 0.5).flatten(1) @ self.first.T) @ self.last.T


class PartlyConfident(Smooth):
    """So sure of a few examples that their gradients vanish."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return torch.where((x[:, :, 0, 0].mean(dim=1) > 0.78)[:, None], logits * 1e4, logits)


class Steps(Attack):
    """Sign steps, with faults that each test plants."""

    ALPHA: ClassVar[float] = 1 / 3
    """Size of a step as a share of the budget."""
    name: Literal["own"] = "own"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        eps, x_adv = self.budget(float(threat_model.eps)), x.clone()
        for _ in range(6):
            x_adv.requires_grad_()
            gradient = torch.autograd.grad(nn.functional.cross_entropy(model(x_adv), y, reduction="sum"), x_adv)[0]
            x_adv = (x + (x_adv.detach() + gradient.sign() * eps * self.ALPHA - x).clamp(-eps, eps)).clamp(0, 1)
        return self.finish(x_adv, x)

    def budget(self, eps: float) -> float:
        return eps

    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x_adv


def judged(
    model: nn.Module, *attacks: Attack, budgets: Sequence[str] = BUDGETS, protocol: Protocol = "nested", seed: int = 0
) -> list[CellResult]:
    """Returns the rows of attacks, one a budget, judged together and with the clean one."""
    x = images(COUNT, low=0.0, high=1.0)
    with torch.no_grad():
        split = TensorSplit(x, model(x).argmax(dim=1))
    threats, clean = [threat(eps) for eps in budgets], Cell(dataset="d", model="m", arch="a", recipe="r")
    rows = [_row(clean, evaluate_clean(model, split), 0)]
    for attack in attacks:
        outcome = sweep(model, split, SweepSettings(attack, threats, protocol=protocol, seed=seed))
        changes = {"condition": "attack", "attack": attack.name, "norm": "Linf"}
        rows += [
            _row(clean.model_copy(update={**changes, "eps": threat_model.eps}), outcome, number)
            for number, threat_model in enumerate(threats)
        ]
    return list(judge(rows))[1:]


def _row(cell: Cell, outcome: Outcome, number: int) -> CellResult:
    condition = outcome.conditions[number]
    digest = f"{cell.attack} {cell.eps}"
    return CellResult(cell, digest, Status.DONE, labels=outcome.labels, clean_logits=outcome.clean_logits, condition=condition)


def robust_accuracy(row: CellResult) -> float:
    return 1 - float(row.condition.is_adversarial.mean())


def says(row: CellResult, text: str) -> bool:
    return any(text in reason for reason in row.verdict_reasons)


def test_sound_plug_in_gets_no_reason_but_the_upper_bound() -> None:
    for row in judged(Smooth(), Steps()):
        assert (row.verdict, row.verdict_reasons) == (Verdict.PASS, ("upper bound: no strong attack at this budget",))


class Dead(Steps):
    """Claims gradients and a strength that it has not, and draws noise."""

    def conclusive(self, classes: int) -> bool:
        return True

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        model(x)
        return x + float(threat_model.eps) * (2 * torch.rand(x.shape, generator=generator) - 1)


def test_attack_without_backward_pass_is_invalid() -> None:
    for row in judged(Smooth(), Dead()):
        assert row.verdict is Verdict.INVALID
        assert says(row, "dead attack: no backward pass")


def test_invalid_attack_bounds_nothing_however_strong_it_calls_itself() -> None:
    rows = judged(Smooth(), attack_of("pgd"), Dead())
    assert all(says(row, "upper bound") for row in rows if row.cell.attack == "pgd")


def test_random_start_that_breaks_all_is_no_dead_attack() -> None:
    sweeps = [judged(Smooth(), attack_of("pgd"), budgets=("9/255", "1"), seed=seed) for seed in range(6)]
    assert any(rows[1].condition.forwards and not rows[1].condition.backwards for rows in sweeps)
    assert {row.verdict for rows in sweeps for row in rows} == {Verdict.PASS}


def test_few_confident_examples_do_not_make_a_low_accuracy_suspect() -> None:
    rows = judged(PartlyConfident(), attack_of("pgd"), budgets=("2/255", "8/255", "16/255"))
    assert 0 < robust_accuracy(rows[-1]) < 0.05
    assert {row.verdict for row in rows} == {Verdict.PASS}


def test_example_without_gradients_counts_once_however_often_it_is_attacked() -> None:
    row = judged(PartlyConfident(), attack_of("pgd", restarts=4), budgets=("16/255",))[0]
    assert row.verdict is Verdict.PASS


class Forgetful(Steps):
    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x.clone()


def test_attack_that_returns_clean_images_is_suspect_though_the_frame_kept_its_adversarials() -> None:
    sound, row = judged(Smooth(), Steps())[0], judged(Smooth(), Forgetful())[0]
    assert row.verdict is Verdict.SUSPECT
    assert says(row, "silent success: the attack found and lost adversarials")
    assert robust_accuracy(row) == robust_accuracy(sound)


@pytest.mark.parametrize("name", ["pgd", "mifgsm", "apgd-ce", "square"])
def test_shipped_attack_gives_nothing_up(name: str) -> None:
    fields = {"square": {"queries": 40}, "apgd-ce": {"steps": 10}}.get(name, {})
    assert not any(says(row, "silent success") for row in judged(Smooth(), attack_of(name, **fields)))


class Dividing(Steps):
    """Returns what a division by the length of a zero gradient leaves: the frame gives these to what is broken."""

    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        moved = (x_adv - x).flatten(1).abs().amax(dim=1) > 0
        return torch.where(moved.view(-1, 1, 1, 1), torch.nan, x_adv)


def test_image_that_is_not_finite_is_no_silent_success() -> None:
    assert not says(judged(Smooth(), Dividing())[0], "silent success")


class Escaping(Steps):
    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x + 3 * (x_adv - x)


def test_images_outside_the_ball_make_the_attack_suspect() -> None:
    row = judged(Smooth(), Escaping())[0]
    assert row.verdict is Verdict.SUSPECT
    assert says(row, "the attack left the ball or [0,1] by")


class Kinked(Smooth):
    """Its gradient is infinite times zero."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (x - x.detach()).abs().sqrt().sum(dim=(1, 2, 3))[:, None]


def test_gradients_that_are_no_numbers_make_the_attack_invalid() -> None:
    row = judged(Kinked(), Steps())[0]
    assert row.verdict is Verdict.INVALID
    assert says(row, "gradients are not finite for 100 % of the correct examples")


def test_attack_that_stops_half_way_has_not_converged() -> None:
    row = judged(Smooth(), attack_of("pgd", steps=2, random_start=False), budgets=("8/255",))[0]
    assert row.condition.evidence.doubled_steps_tried > 8
    assert row.verdict is Verdict.SUSPECT
    assert says(row, "not converged")


class Timid(Steps):
    ALPHA: ClassVar[float] = 1e-4


@pytest.mark.parametrize(("rival", "eps", "text"), [("fgsm", "8/255", "a single step"), ("random_noise", "1", "random noise")])
def test_attack_that_hardly_moves_is_beaten_by_less(rival: str, eps: str, text: str) -> None:
    row, _ = judged(Smooth(), Timid(), attack_of(rival), budgets=(eps,))
    assert row.verdict is Verdict.SUSPECT
    assert says(row, f"{text} ({rival}) breaks")


class Stalling(Steps):
    def budget(self, eps: float) -> float:
        return min(eps, 2 / 255)


class Shrinking(Steps):
    def budget(self, eps: float) -> float:
        return eps if eps < 4 / 255 else 1e-4


@pytest.mark.parametrize(
    ("attack", "text"), [(Stalling(), "success stays at"), (Shrinking(), "less than at the smaller budget 2/255")]
)
def test_attack_that_makes_nothing_of_a_larger_budget_is_suspect(attack: Attack, text: str) -> None:
    row = judged(Smooth(), attack, protocol="independent")[1]
    assert row.verdict is Verdict.SUSPECT
    assert says(row, text)
