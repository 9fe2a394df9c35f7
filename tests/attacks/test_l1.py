"""ART's PGD in L1: its steps must not stop where values reach 0 or 1."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from harness.attacks.art import best_l1_point
from harness.attacks.frame import find_nearest, run_attack
from harness.attacks.results import AttackInput
from harness.threat import Norm, ThreatModel
from tests.attacks.nets import attack_of, threat


@pytest.mark.parametrize("eps", [0.2, 1.0, 3.0, 100.0])
def test_best_point_is_the_optimum_of_the_linear_programme(eps: float) -> None:
    generator = torch.Generator().manual_seed(int(eps * 10))
    x, gradient = torch.rand(4, 3, 2, 2, generator=generator), torch.randn(4, 3, 2, 2, generator=generator)
    best = best_l1_point(gradient, x, eps=eps)
    assert ThreatModel(norm="L1", eps=str(eps)).violation(best, x).max() <= 1e-6
    for slopes, image, point in zip(gradient.flatten(1).numpy(), x.flatten(1).numpy(), best.flatten(1).numpy(), strict=True):
        bounds = [(0, 1 - value) for value in image] + [(0, value) for value in image]
        optimum = linprog(np.concatenate([-slopes, slopes]), A_ub=np.ones((1, 24)), b_ub=[eps], bounds=bounds)
        assert float(slopes @ (point - image)) == pytest.approx(-optimum.fun, abs=1e-5)


def test_what_has_no_slope_stays_where_it_is() -> None:
    x, gradient = torch.full((2, 3, 1, 1), 0.5), torch.tensor([0.0, torch.nan, torch.inf]).view(1, 3, 1, 1).repeat(2, 1, 1, 1)
    assert torch.equal(best_l1_point(gradient, x, eps=1.0), x)


@pytest.mark.parametrize("eps", ["2", "6", "12"])
def test_pgd_in_l1_leaves_little_more_than_fab(digits: AttackInput, eps: str) -> None:
    inputs = digits.at(torch.arange(60))
    threat_model = threat(eps, "L1")
    robust = (
        1 - run_attack(attack_of("art-pgd", steps=40), inputs, threat_model=threat_model, seed=0).is_adversarial.float().mean()
    )
    distance = find_nearest(attack_of("fab", steps=10), inputs, threat_model=threat_model, seed=0).distance
    assert float(robust - (distance > float(threat_model.eps)).float().mean()) <= 0.1


def test_more_steps_succeed_more_often_where_values_saturate(digits: AttackInput) -> None:
    """The library's own step changes nothing after the first values are at 0 or 1."""
    successes = [
        int(
            run_attack(
                attack_of("art-pgd", steps=steps, random_start=False), digits, threat_model=threat("6", "L1"), seed=0
            ).is_adversarial.sum()
        )
        for steps in (1, 10)
    ]
    assert successes[1] > successes[0] + 20


def test_examples_without_a_gradient_stand_still(digits: AttackInput) -> None:
    class Flat(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3)).mul(255).round()

    x = digits.x[:4]
    attack = attack_of("art-pgd", random_start=False)
    result = run_attack(attack, AttackInput(Flat(), x, torch.zeros(4, dtype=torch.long)), threat_model=threat("2", "L1"), seed=0)
    assert torch.equal(result.x_adv, x)
    assert Norm.L1 in attack.NORMS
