"""The evidence of the parts of a split adds up to that of the whole."""

import itertools

import pytest
import torch
from torch import nn

from harness.datasets.tensors import TensorSplit
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.records.evidence import Evidence, NetworkEvidence
from tests.attacks.nets import attack_of, threat

BATCH = 5
BUDGETS = ("2/255", "16/255")


def _evidence(net: nn.Module, split: TensorSplit, attack: str, norm: str, protocol: str, **fields: object) -> list[Evidence]:
    budgets = tuple(threat(eps, norm) for eps in BUDGETS)
    outcome = sweep(
        net, split, SweepSettings(attack_of(attack, **fields), budgets, protocol=protocol), batch_size=BATCH, probes=0
    )
    return [condition.evidence for condition in outcome.conditions]


@pytest.mark.parametrize(
    ("attack", "norm", "fields", "protocol"),
    [
        ("fgsm", "Linf", {}, "nested"),
        ("fgsm", "Linf", {}, "independent"),
        ("pgd", "Linf", {"steps": 3, "random_start": False}, "independent"),
        ("deepfool", "L2", {"steps": 4}, "nested"),
    ],
)
def test_parts_of_a_split_add_up_to_the_whole(
    net: nn.Module, split: TensorSplit, *, attack: str, norm: str, fields: dict[str, object], protocol: str
) -> None:
    # in the same batches: an attack is stopped once it succeeded on a whole batch, so its passes depend on them
    x, y = split.images, torch.as_tensor(split.labels)
    cuts = [slice(0, 15), slice(15, 30), slice(30, None)]
    whole = _evidence(net, split, attack, norm, protocol, **fields)
    parts = [_evidence(net, TensorSplit(x[cut], y[cut]), attack, norm, protocol, **fields) for cut in cuts]
    for budget, all_at_once in enumerate(whole):
        assert all_at_once.attacked > 0 or budget
        assert sum((part[budget] for part in parts), Evidence()) == all_at_once


def test_evidence_of_networks_adds_counts_and_keeps_maxima() -> None:
    first = NetworkEvidence(probed=8, unbounded_failures=2, bounded=True, random_forward=0.25, gradients_compared=6)
    second = NetworkEvidence(probed=4, unbounded_failures=1, random_forward=0.5, gradients_compared=3, gradients_wrong=1)
    expected = NetworkEvidence(
        probed=12,
        unbounded_failures=3,
        bounded=True,
        random_forward=0.5,
        gradients_compared=9,
        gradients_wrong=1,
    )
    assert first + second == second + first == expected
    undefined = NetworkEvidence(random_forward=float("nan"))
    assert all(str((left + right).random_forward) == "nan" for left, right in itertools.permutations([undefined, first]))


def test_evidence_of_different_attacks_is_not_added() -> None:
    with pytest.raises(ValueError, match=r"evidence\.access: expected parts of one attack, got 'iterative' and 'black_box'"):
        Evidence(access="iterative") + Evidence(access="black_box")


def test_a_form_counts_where_every_part_had_it() -> None:
    assert [
        (Evidence(compiled=one) + Evidence(compiled=other)).compiled
        for one, other in ((None, None), (True, None), (True, True), (True, False))
    ] == [None, True, True, False]
