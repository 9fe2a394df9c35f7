"""The harness against other implementations of the same attacks, at equal budgets on the same net and images."""

import logging

import foolbox
import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from art.estimators.classification import PyTorchClassifier
from pyautoattack import AutoAttack
from torch import Tensor, nn

from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.metrics import wilson_interval
from tests.attacks.nets import attack_of, threat

BUDGETS = ["1/20", "1/10", "1/5"]


def _correct(inputs: AttackInput, x_adv: Tensor) -> int:
    return int((inputs.model(x_adv).argmax(dim=1) == inputs.y).sum())


def _ours(inputs: AttackInput, eps: str, name: str, norm: str = "Linf", **fields: object) -> int:
    """Examples that are correct under the attack; initially wrong ones are not, whatever happens to them."""
    result = run_attack(attack_of(name, **fields), inputs, threat_model=threat(eps, norm), seed=0, best_of_iterates=False)
    return _correct(inputs, result.x_adv)


def _within_the_interval(ours: int, theirs: int, count: int) -> bool:
    interval = wilson_interval(theirs, count)
    return interval.low <= ours / count <= interval.high


@pytest.mark.parametrize("eps", BUDGETS)
def test_fgsm_agrees_with_art_and_foolbox(digits: AttackInput, eps: str) -> None:
    ours, budget, count = _ours(digits, eps, "fgsm"), float(threat(eps).eps), len(digits.x)
    shape = tuple(digits.x.shape[1:])
    art = PyTorchClassifier(digits.model, nn.CrossEntropyLoss(), shape, nb_classes=10, clip_values=(0, 1), device_type="cpu")
    from_art = FastGradientMethod(art, eps=budget).generate(digits.x.numpy(), digits.y.numpy())
    model = foolbox.PyTorchModel(digits.model, bounds=(0, 1), device="cpu")
    _, from_foolbox, _ = foolbox.attacks.LinfFastGradientAttack()(model, digits.x, digits.y, epsilons=budget)
    assert abs(ours - _correct(digits, torch.from_numpy(from_art))) <= 1
    assert abs(ours - _correct(digits, from_foolbox)) <= 1
    assert 0 < ours < count


@pytest.mark.parametrize("eps", BUDGETS)
def test_pgd_agrees_with_art_and_foolbox(digits: AttackInput, eps: str) -> None:
    ours, budget, count = _ours(digits, eps, "pgd", steps=20, alpha_relative="1/10"), float(threat(eps).eps), len(digits.x)
    model = foolbox.PyTorchModel(digits.model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(rel_stepsize=0.1, steps=20, random_start=True)
    _, from_foolbox, _ = attack(model, digits.x, digits.y, epsilons=budget)
    assert _within_the_interval(ours, _correct(digits, from_foolbox), count)
    assert _within_the_interval(ours, _ours(digits, eps, "art-pgd", steps=20, alpha_relative="1/10"), count)


def test_l2_pgd_agrees_with_art_and_foolbox(digits: AttackInput) -> None:
    fields = {"norm": "L2", "steps": 20, "alpha_relative": "1/10"}
    ours, count = _ours(digits, "1", "pgd", **fields), len(digits.x)
    model = foolbox.PyTorchModel(digits.model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.L2PGD(rel_stepsize=0.1, steps=20, random_start=True)
    _, from_foolbox, _ = attack(model, digits.x, digits.y, epsilons=1.0)
    assert _within_the_interval(ours, _correct(digits, from_foolbox), count)
    assert _within_the_interval(ours, _ours(digits, "1", "art-pgd", **fields), count)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_apgd_agrees_with_arts_autopgd(digits: AttackInput, norm: str) -> None:
    eps = "1/10" if norm == "Linf" else "1"
    ours, theirs = (_ours(digits, eps, name, norm, steps=25) for name in ("apgd-ce", "art-autopgd"))
    assert _within_the_interval(ours, theirs, len(digits.x))


def test_best_of_iterates_is_never_weaker_than_the_library(digits: AttackInput) -> None:
    for name in ("fgsm", "pgd", "mifgsm", "apgd-ce"):
        watched, plain = (
            run_attack(attack_of(name), digits, threat_model=threat("1/10"), seed=0, best_of_iterates=best)
            for best in (True, False)
        )
        assert watched.is_adversarial.sum() >= plain.is_adversarial.sum() - 1
        assert watched.evidence.backwards <= plain.evidence.backwards


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "norm"), [("1/10", "Linf"), ("1", "L2")])
def test_strong_is_at_most_half_a_point_above_the_original_autoattack(digits: AttackInput, eps: str, norm: str) -> None:
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    correct = digits.model(digits.x).argmax(dim=1) == digits.y
    inputs = digits.at(correct.nonzero().flatten())
    theirs = AutoAttack(inputs.model, norm=norm, eps=float(threat(eps).eps), seed=0, version="standard")
    x_adv = theirs.run_standard_evaluation(inputs.x, inputs.y, batch_size=200)
    x_adv = x_adv[0] if isinstance(x_adv, tuple) else x_adv
    result = run_attack(attack_of("strong"), inputs, threat_model=threat(eps, norm), seed=0)
    robust = 1 - result.is_adversarial.float().mean().item()
    assert robust <= _correct(inputs, x_adv) / len(inputs.x) + 0.005
    assert np.isfinite(robust)
