"""Attacks against a linear net, whose smallest perturbations have a closed form, and against a net without gradients."""

import pytest
import torch

from harness.attacks.frame import Victim, find_nearest, run_attack
from harness.attacks.torchattacks.auto import Square
from harness.threat import Norm, ThreatModel
from tests.attacks.nets import LinearNet, attack_of, clear_images, threat

FACTOR = 1.25
"""An attack must succeed within this factor of the smallest perturbation."""

WITHIN_A_BUDGET = [
    ("fgsm", "Linf", {}),
    ("bim", "Linf", {}),
    ("mifgsm", "Linf", {}),
    ("pgd", "Linf", {"steps": 20}),
    ("pgd", "L2", {"steps": 20}),
    ("apgd-ce", "Linf", {"steps": 30}),
    ("apgd-ce", "L2", {"steps": 30}),
    ("apgd-t", "Linf", {"steps": 30}),
    ("apgd-t", "L2", {"steps": 30}),
    ("strong", "Linf", {"steps": 30, "fab_steps": 10, "queries": 10}),
    ("strong", "L2", {"steps": 30, "fab_steps": 10, "queries": 10}),
    ("art-pgd", "Linf", {"steps": 20}),
    ("art-pgd", "L2", {"steps": 20}),
    ("art-autopgd", "Linf", {"steps": 30}),
    ("art-autopgd", "L2", {"steps": 30}),
]
MINIMUM_NORM = [
    ("fab", "Linf", {"steps": 20}),
    ("fab", "L2", {"steps": 20}),
    ("fab", "L1", {"steps": 20}),
    ("fab", "L2", {"steps": 20, "targets": 0}),
    ("deepfool", "L2", {}),
    ("cw", "L2", {"steps": 200}),
]


@pytest.fixture
def victim() -> Victim:
    net = LinearNet()
    x = clear_images(net, 4)
    return Victim(net, x, net(x).argmax(dim=1))


@pytest.mark.parametrize(("name", "norm", "fields"), WITHIN_A_BUDGET)
def test_attack_succeeds_just_above_the_smallest_distance(victim: Victim, name: str, norm: str, fields: dict) -> None:
    distances = victim.model.smallest_distance(victim.x, Norm(norm))
    for row, distance in enumerate(distances.tolist()):
        threat_model = ThreatModel(norm=norm, eps=FACTOR * distance)
        result = run_attack(attack_of(name, **fields), victim.at(torch.tensor([row])), threat_model=threat_model, seed=0)
        assert result.fooled.all(), f"{name} misses an adversarial at {FACTOR} x {distance:.4f}"


@pytest.mark.parametrize(("name", "norm", "fields"), WITHIN_A_BUDGET)
def test_attack_finds_nothing_below_the_smallest_distance(victim: Victim, name: str, norm: str, fields: dict) -> None:
    eps = 0.98 * float(victim.model.smallest_distance(victim.x, Norm(norm)).min())
    result = run_attack(attack_of(name, **fields), victim, threat_model=ThreatModel(norm=norm, eps=eps), seed=0)
    assert not result.fooled.any()


@pytest.mark.parametrize(("name", "norm", "fields"), MINIMUM_NORM)
def test_search_comes_close_to_the_smallest_distance(victim: Victim, name: str, norm: str, fields: dict) -> None:
    exact = victim.model.smallest_distance(victim.x, Norm(norm))
    largest = ThreatModel(norm=norm, eps=min(1.0, float(exact.max()) * 2) if norm == "Linf" else float(exact.max()) * 2)
    found = find_nearest(attack_of(name, **fields), victim, threat_model=largest, seed=0).distance
    assert (found >= exact * (1 - 1e-3)).all()
    assert (found <= exact * FACTOR).all(), f"{name}: {(found / exact).tolist()}"


def test_black_box_attack_breaks_a_net_whose_gradients_are_masked(victim: Victim) -> None:
    class Rounded(LinearNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward((x * 255).round() / 255)

    masked = Victim(Rounded(), victim.x, victim.y)
    eps = str(round(4 * float(victim.model.smallest_distance(victim.x, Norm.LINF).max()), 3))
    blind = run_attack(attack_of("pgd", random_start=False), masked, threat_model=threat(eps), seed=0)
    sighted = run_attack(attack_of("square", queries=200), masked, threat_model=threat(eps), seed=0)
    assert not blind.fooled.any()
    assert blind.evidence.zero_gradients == len(victim.x)
    assert sighted.fooled.float().mean() >= 0.75


def test_random_noise_is_far_weaker_than_a_gradient(victim: Victim) -> None:
    eps = str(round(1.5 * float(victim.model.smallest_distance(victim.x, Norm.LINF).max()), 4))
    noise = run_attack(attack_of("random_noise", restarts=5), victim, threat_model=threat(eps), seed=0)
    assert run_attack(attack_of("pgd"), victim, threat_model=threat(eps), seed=0).fooled.all()
    assert noise.fooled.float().mean() <= 0.25


@pytest.mark.parametrize(("classes", "fields", "expected"), [(4, {}, True), (3, {}, False), (10, {"queries": 4999}, False)])
def test_ensemble_decides_only_with_all_its_stages_and_budgets(classes: int, fields: dict, *, expected: bool) -> None:
    assert attack_of("strong", **fields).conclusive(classes) is expected


def test_ensemble_counts_the_code_of_its_parts_once_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = attack_of("strong").identity()
    monkeypatch.setattr(Square, "VERSION", 2)
    assert attack_of("strong").identity() == {**before, "parts": {**before["parts"], "Square": 2}}
