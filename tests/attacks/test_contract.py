"""One contract for every registered attack, shipped or not."""

import copy

import pytest
import torch
from torch import Tensor

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.cli.fields import said_below
from harness.system.seeds import global_seed
from harness.threat import Norm, ThreatModel
from tests.attacks.nets import CLASSES, conv_net, images

FEW = {"steps": 3, "fab_steps": 2, "queries": 6, "targets": 2, "search_steps": 1}
"""Small budgets, for those attacks that have such a field."""
BUDGETS = {Norm.LINF: "16/255", Norm.L2: "1/2", Norm.L1: "4"}


def _small(name: str) -> Attack:
    cls = ATTACKS.get(name)
    return cls.model_validate({"name": name, **{field: value for field, value in FEW.items() if field in cls.model_fields}})


CASES = [
    (name, norm, targeted)
    for name in ATTACKS.names()
    for norm in Norm
    for targeted in (False, True)
    if _small(name).supports(ThreatModel(norm=norm, eps=BUDGETS[norm], targeted=targeted)) is None
]


def _batch() -> tuple[Tensor, Tensor]:
    return images(5, low=0.0, high=1.0), torch.arange(5) % CLASSES


@pytest.mark.parametrize(("name", "norm", "targeted"), CASES)
def test_attack_keeps_the_contract(name: str, norm: Norm, targeted: bool) -> None:
    attack, threat_model = _small(name), ThreatModel(norm=norm, eps=BUDGETS[norm], targeted=targeted)
    x, y = _batch()
    net = conv_net().train()
    net[1].eval()
    modes = [module.training for module in net.modules()]
    logits = copy.deepcopy(net).eval()(x)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    given, random_state = x.clone(), torch.get_rng_state()
    first, second = (run_attack(attack, AttackInput(net, x, y), threat_model=threat_model, seed=1) for _ in range(2))
    assert torch.equal(first.x_adv, second.x_adv)
    assert threat_model.violation(first.x_adv, x).max() <= 1e-6
    assert (first.x_adv.shape, first.x_adv.dtype) == (x.shape, x.dtype)
    assert not first.x_adv.requires_grad
    assert [module.training for module in net.modules()] == modes
    with torch.no_grad():
        predicted = net.eval()(first.x_adv).argmax(dim=1)
    assert torch.equal(first.is_adversarial, predicted == y if targeted else predicted != y)
    assert torch.equal(net(x), logits)
    assert first.evidence.forwards >= len(x)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize(("name", "norm", "targeted"), CASES)
def test_bare_perturb_is_sound_without_the_frame(name: str, norm: Norm, targeted: bool) -> None:
    """Training and other libraries may call `perturb` themselves."""
    attack, threat_model = _small(name), ThreatModel(norm=norm, eps=BUDGETS[norm], targeted=targeted)
    x, y = _batch()
    given, net = x.clone(), conv_net().requires_grad_(False)
    with global_seed(0):
        x_adv = attack.perturb(net, x, y, threat_model=threat_model, generator=torch.Generator().manual_seed(0))
    assert (x_adv.shape, x_adv.dtype) == (x.shape, x.dtype)
    assert not x_adv.requires_grad
    assert torch.equal(x, given)
    if not attack.MINIMUM_NORM:
        assert threat_model.violation(x_adv, x).max() <= 1e-5


@pytest.mark.parametrize("name", ATTACKS.names())
def test_attack_describes_its_fields_and_its_parameters_are_in_its_identity(name: str) -> None:
    cls = ATTACKS.get(name)
    undescribed = [
        field for field, info in cls.model_fields.items() if field != "name" and not (info.description or said_below(cls, field))
    ]
    assert not undescribed
    assert set(_small(name).identity()) - {"version", "parts"} == set(cls.model_fields)


@pytest.mark.parametrize("name", ATTACKS.names())
def test_attack_runs_on_a_single_image(name: str) -> None:
    attack = _small(name)
    norm = sorted(attack.NORMS)[0]
    x, y = _batch()
    result = run_attack(
        attack, AttackInput(conv_net(), x[:1], y[:1]), threat_model=ThreatModel(norm=norm, eps=BUDGETS[norm]), seed=0
    )
    assert result.logits.shape == (1, CLASSES)
