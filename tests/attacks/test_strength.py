"""Attacks against a linear net, whose smallest perturbations have a closed form, and against a net without gradients."""

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.frame import find_nearest, run_attack
from harness.attacks.results import AttackInput
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
    ("pma", "Linf", {"steps": 20}),
    ("pma", "L2", {"steps": 20}),
    ("malt", "Linf", {"steps": 20}),
    ("malt", "L2", {"steps": 20}),
    ("audited", "Linf", {}),
    ("audited", "L2", {}),
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
def inputs() -> AttackInput:
    net = LinearNet()
    x = clear_images(net, 4)
    return AttackInput(net, x, net(x).argmax(dim=1))


@pytest.mark.parametrize(("name", "norm", "fields"), WITHIN_A_BUDGET)
def test_attack_succeeds_just_above_the_smallest_distance(inputs: AttackInput, name: str, norm: str, fields: dict) -> None:
    distances = inputs.model.smallest_distance(inputs.x, Norm(norm))
    for row, distance in enumerate(distances.tolist()):
        threat_model = ThreatModel(norm=norm, eps=FACTOR * distance)
        result = run_attack(attack_of(name, **fields), inputs.at(torch.tensor([row])), threat_model=threat_model, seed=0)
        assert result.is_adversarial.all(), f"{name} misses an adversarial at {FACTOR} x {distance:.4f}"


@pytest.mark.parametrize(("name", "norm", "fields"), WITHIN_A_BUDGET)
def test_attack_finds_nothing_below_the_smallest_distance(inputs: AttackInput, name: str, norm: str, fields: dict) -> None:
    eps = 0.98 * float(inputs.model.smallest_distance(inputs.x, Norm(norm)).min())
    result = run_attack(attack_of(name, **fields), inputs, threat_model=ThreatModel(norm=norm, eps=eps), seed=0)
    assert not result.is_adversarial.any()


@pytest.mark.parametrize(("name", "norm", "fields"), MINIMUM_NORM)
def test_search_comes_close_to_the_smallest_distance(inputs: AttackInput, name: str, norm: str, fields: dict) -> None:
    exact = inputs.model.smallest_distance(inputs.x, Norm(norm))
    largest = ThreatModel(norm=norm, eps=min(1.0, float(exact.max()) * 2) if norm == "Linf" else float(exact.max()) * 2)
    found = find_nearest(attack_of(name, **fields), inputs, threat_model=largest, seed=0).distance
    assert (found >= exact * (1 - 1e-3)).all()
    assert (found <= exact * FACTOR).all(), f"{name}: {(found / exact).tolist()}"


def test_black_box_attack_breaks_a_net_whose_gradients_are_masked(inputs: AttackInput) -> None:
    class Rounded(LinearNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward((x * 255).round() / 255)

    masked = AttackInput(Rounded(), inputs.x, inputs.y)
    eps = str(round(4 * float(inputs.model.smallest_distance(inputs.x, Norm.LINF).max()), 3))
    blind = run_attack(attack_of("pgd", random_start=False), masked, threat_model=threat(eps), seed=0)
    sighted = run_attack(attack_of("square", queries=200), masked, threat_model=threat(eps), seed=0)
    assert not blind.is_adversarial.any()
    assert blind.evidence.zero_gradients == len(inputs.x)
    assert sighted.is_adversarial.float().mean() >= 0.75


class Confident(nn.Module):
    """A linear net whose logits are so far apart that their softmax is 1 for one class, to the last bit of float32."""

    def __init__(self, net: LinearNet, scale: float) -> None:
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.net(x)


def _confident(inputs: AttackInput, margin: float, *, of: str) -> AttackInput:
    """Returns the inputs with logits scaled so that the smallest or largest margin between the first two is `margin`."""
    top = inputs.model(inputs.x).topk(2).values
    margins = (top[:, 0] - top[:, 1]).detach()
    return AttackInput(
        Confident(inputs.model, margin / float(margins.min() if of == "smallest" else margins.max())), inputs.x, inputs.y
    )


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mifgsm"])
def test_mean_over_a_batch_loses_no_gradient_of_a_confident_network(inputs: AttackInput, name: str) -> None:
    """e to the power of -60 is a number in float32, and stays one when it is divided by the size of a batch."""
    confident = _confident(inputs, 60.0, of="largest")
    assert torch.equal(confident.model(inputs.x).softmax(1).amax(1), torch.ones(len(inputs.x)))
    attack = attack_of(name) if name != "pgd" else attack_of(name, random_start=False)
    whole = run_attack(attack, confident, threat_model=threat("1/255"), seed=0)
    alone = [run_attack(attack, confident.at(torch.tensor([row])), threat_model=threat("1/255"), seed=0) for row in range(4)]
    assert whole.evidence.zero_gradients == 0
    assert torch.equal(whole.x_adv, torch.cat([result.x_adv for result in alone]))


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "mifgsm", "apgd-ce"])
def test_gradients_that_underflow_are_counted(inputs: AttackInput, name: str) -> None:
    """Not even a sum over the batch would save what is below the smallest float32, e to the power of -104."""
    confident = _confident(inputs, 120.0, of="smallest")
    attack = attack_of(name, **({"random_start": False} if name == "pgd" else {}))
    result = run_attack(attack, confident, threat_model=threat("1/255"), seed=0)
    assert result.evidence.zero_gradients == len(inputs.x)
    assert not result.is_adversarial.any()


@pytest.mark.parametrize("name", ["apgd-t", "square"])
def test_attack_on_differences_of_logits_does_not_mind_confidence(inputs: AttackInput, name: str) -> None:
    eps = str(round(4 * float(inputs.model.smallest_distance(inputs.x, Norm.LINF).max()), 3))
    result = run_attack(attack_of(name), _confident(inputs, 120.0, of="smallest"), threat_model=threat(eps), seed=0)
    assert result.is_adversarial.all()


def test_random_noise_is_far_weaker_than_a_gradient(inputs: AttackInput) -> None:
    eps = str(round(1.5 * float(inputs.model.smallest_distance(inputs.x, Norm.LINF).max()), 4))
    noise = run_attack(attack_of("random_noise", restarts=5), inputs, threat_model=threat(eps), seed=0)
    assert run_attack(attack_of("pgd"), inputs, threat_model=threat(eps), seed=0).is_adversarial.all()
    assert noise.is_adversarial.float().mean() <= 0.25


@pytest.mark.parametrize(("classes", "fields", "expected"), [(4, {}, True), (3, {}, False), (10, {"queries": 4999}, False)])
def test_ensemble_decides_only_with_all_its_stages_and_budgets(classes: int, fields: dict, *, expected: bool) -> None:
    assert attack_of("strong", **fields).conclusive(classes) is expected


def test_ensemble_counts_the_code_of_its_parts_once_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = attack_of("strong").identity()
    monkeypatch.setattr(Square, "VERSION", 2)
    assert attack_of("strong").identity() == {**before, "parts": {**before["parts"], "Square": 2}}
