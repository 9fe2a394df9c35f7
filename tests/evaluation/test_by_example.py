"""What becomes of an example depends on no other one: any permutation and any split gives the same rows, bit for bit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.attacks.base import ATTACKS, Attack
from harness.datasets.splits import take
from harness.datasets.tensors import TensorSplit
from harness.errors import HarnessError
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.records import Outcome, Protocol
from harness.system.by_example import DrawsByExample
from harness.threat import Norm, ThreatModel
from tests.attacks.nets import attack_of, conv_net, images

COUNT, BATCH = 12, 4
BUDGETS = {Norm.LINF: ("1/255", "6/255"), Norm.L2: ("1/10", "1/2"), Norm.L1: ("1", "8")}
SHORT = {
    "bim": {"steps": 3},
    "pgd": {"steps": 3, "restarts": 2},
    "mifgsm": {"steps": 3},
    "apgd-ce": {"steps": 6, "restarts": 2},
    "apgd-t": {"steps": 5},
    "pma": {"steps": 6},
    "malt": {"steps": 5},
    "square": {"queries": 30},
    "fab": {"steps": 5},
}


def _apart() -> list[tuple[str, Norm]]:
    """Every registered attack with the norms in which it keeps examples apart."""
    return [
        (name, norm)
        for name in ATTACKS.names()
        for norm in Norm
        if attack_of(name, **SHORT.get(name, {})).keeps_examples_apart(norm)
    ]


def _mixed() -> list[tuple[str, Norm]]:
    """Every registered attack with the norms in which it does not."""
    attacks = [(name, attack_of(name, **SHORT.get(name, {}))) for name in ATTACKS.names()]
    return [(name, norm) for name, it in attacks for norm in sorted(it.NORMS) if not it.keeps_examples_apart(norm)]


@dataclass(frozen=True)
class Rows:
    """What was found of some examples."""

    outcome: Outcome
    images: dict[Fraction, NDArray[np.float32]]

    def at(self, rows: Sequence[int]) -> list[NDArray[np.generic]]:
        found: list[NDArray[np.generic]] = [self.outcome.clean_logits[rows], self.outcome.smallest_eps[rows]]
        for condition in self.outcome.conditions:
            found += [condition.logits[rows], condition.is_adversarial[rows], condition.distance[rows]]
        return found + [it[rows] for it in self.images.values()]


def _attacked(split: TensorSplit, rows: Sequence[int], settings: SweepSettings) -> Rows:
    part, shape = take(split, np.array(rows)), (len(rows), 3, 8, 8)
    found = {threat.eps: np.zeros(shape, np.float32) for threat in settings.threat_models}

    def keep(eps: Fraction, indices: NDArray[np.int64], x: Tensor) -> None:
        found[eps][indices] = x.numpy()

    outcome = sweep(conv_net(), part, settings, batch_size=BATCH, probes=0, keep=keep)
    return Rows(outcome, found)


def _settings(attack: Attack, norm: Norm, protocol: Protocol = "nested") -> SweepSettings:
    threats = tuple(ThreatModel(norm=norm, eps=eps) for eps in BUDGETS[norm])
    return SweepSettings(attack, threats, protocol=protocol, seed=3, by_example=True)


@pytest.fixture(scope="module")
def few() -> TensorSplit:
    """12 images, two of which are equal and one of which the net gets wrong."""
    x, net = images(COUNT, seed=5, low=0.0, high=1.0), conv_net()
    x[7] = x[2]
    with torch.no_grad():
        y = net(x).argmax(dim=1)
    y[4] = (y[4] + 1) % 4
    return TensorSplit(x, y)


@pytest.mark.parametrize(("name", "norm"), _apart())
def test_any_permutation_and_any_split_give_the_same_rows(name: str, norm: Norm, few: TensorSplit) -> None:
    _expect_same_rows(_settings(attack_of(name, **SHORT.get(name, {})), norm), few)


def test_neither_do_they_depend_on_each_other_where_every_budget_is_attacked_from_scratch(few: TensorSplit) -> None:
    _expect_same_rows(_settings(attack_of("pgd", steps=3), Norm.LINF, "independent"), few)


def test_neither_do_they_where_an_attack_aims_at_a_class(few: TensorSplit) -> None:
    threats = tuple(ThreatModel(norm=Norm.LINF, eps=eps, targeted=True) for eps in BUDGETS[Norm.LINF])
    settings = SweepSettings(attack_of("pma", steps=4), threats, seed=3, by_example=True, target_class=1)
    _expect_same_rows(settings, few)


def _expect_same_rows(settings: SweepSettings, few: TensorSplit) -> None:
    whole = _attacked(few, range(COUNT), settings)
    shuffled = np.random.default_rng(0).permutation(COUNT).tolist()
    for order in (shuffled, shuffled[:5], shuffled[5:], [0]):
        found = _attacked(few, order, settings)
        for mine, theirs in zip(found.at(range(len(order))), whole.at(order), strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(("name", "norm"), _apart())
def test_the_evidence_of_the_parts_adds_up_to_that_of_the_whole(name: str, norm: Norm, few: TensorSplit) -> None:
    settings = _settings(attack_of(name, **SHORT.get(name, {})), norm)
    whole = _attacked(few, range(COUNT), settings).outcome
    parts = [_attacked(few, rows, settings).outcome for rows in (range(5), range(5, COUNT))]
    for number, condition in enumerate(whole.conditions):
        first, second = (part.conditions[number].evidence for part in parts)
        assert first + second == condition.evidence


@pytest.mark.parametrize("norm", Norm)
def test_noise_of_a_large_image_is_the_same_beside_another_and_with_two_threads(norm: Norm) -> None:
    # PyTorch sums a single large row in parallel, and several rows one in each thread.
    attack, threat_model = attack_of("random_noise"), ThreatModel(norm=norm, eps="1/8")
    network, threads = conv_net(), torch.get_num_threads()
    torch.set_num_threads(2)

    def noisy(x: Tensor, keys: Sequence[int]) -> Tensor:
        with DrawsByExample(keys, x, rows=lambda: torch.arange(len(x)), announce=lambda _: None):
            labels, generator = torch.zeros(len(x), dtype=torch.long), torch.Generator()
            return attack.perturb(network, x, labels, threat_model=threat_model, generator=generator)

    try:
        for seed in range(6):
            pair = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(seed))
            assert torch.equal(noisy(pair, (seed, seed + 1))[1:], noisy(pair[1:], (seed + 1,)))
    finally:
        torch.set_num_threads(threads)


def test_another_seed_or_another_image_gives_another_start(few: TensorSplit) -> None:
    settings = _settings(attack_of("random_noise"), Norm.LINF)
    noise = [_attacked(few, range(COUNT), it).outcome.conditions[0].logits for it in (settings, replace(settings, seed=4))]
    assert not np.isclose(noise[0], noise[1]).all(axis=1)[[0, 1, 2]].any()


def test_attacks_that_mix_a_batch_say_so_and_are_refused() -> None:
    for name, norm in _mixed():
        attack = attack_of(name)
        assert "by example" in " ".join((type(attack).__doc__ or "").split()), name
        with pytest.raises(HarnessError, match=f"by_example.*{name}"):
            _settings(attack, norm).check()


@pytest.mark.parametrize("change", [{"protocol": "bisect"}, {"best_of_iterates": False}])
def test_a_sweep_that_learns_from_other_examples_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(HarnessError, match="by_example"):
        replace(_settings(attack_of("pgd"), Norm.LINF), **change).check()
