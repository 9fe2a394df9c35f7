"""The order in which MALT tries wrong classes."""

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.frame import run_attack
from harness.attacks.malt import malt_order
from harness.attacks.results import AttackInput
from harness.threat import Norm
from tests.attacks.nets import attack_of, threat


class Rows(nn.Module):
    """Logits are given rows times the pixels, plus offsets."""

    def __init__(self, rows: list[list[float]], offsets: list[float]) -> None:
        super().__init__()
        self.rows, self.offsets = torch.tensor(rows), torch.tensor(offsets)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.rows.T + self.offsets


X = torch.full((1, 3, 1, 2), 0.5)
"""Six pixels."""
NET = Rows(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # the true class
        [0.1, 0.1, 0.1, 0.1, 0.1, 0.1],  # gap 1, L1 length 0.6: 1.67; L2 length 0.245: 4.08
        [4.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # gap 2, L1 length 4: 0.5; L2 length 4: 0.5
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],  # gap 3, L1 length 6: 0.5 (a little more); L2 length 2.45: 1.22
    ],
    [4.0, 4.0 - 1 - 0.3, 4.0 - 2 - 2, 4.0 - 3.06 - 3],
)


@pytest.mark.parametrize(("norm", "expected"), [(Norm.LINF, [2, 3, 1]), (Norm.L2, [2, 3, 1])])
def test_order_is_that_of_the_distances_to_the_boundaries(norm: Norm, expected: list[int]) -> None:
    assert malt_order(NET, X, torch.tensor([0]), norm=norm, candidates=9).tolist() == [expected]


def test_norms_may_order_classes_differently() -> None:
    # gaps 1 and 1; L1 lengths 3 and 2.4, L2 lengths 1.22 and 2.4: one is nearer in Linf, the other in L2
    net = Rows([[0.0] * 6, [0.5] * 6, [2.4, 0, 0, 0, 0, 0]], [4.0, 4 - 1 - 1.5, 4 - 1 - 1.2])
    assert malt_order(net, X, torch.tensor([0]), norm=Norm.LINF, candidates=9).tolist() == [[1, 2]]
    assert malt_order(net, X, torch.tensor([0]), norm=Norm.L2, candidates=9).tolist() == [[2, 1]]


def test_likely_classes_alone_are_candidates() -> None:
    order = malt_order(NET, X, torch.tensor([0]), norm=Norm.LINF, candidates=2)
    assert order.tolist() == [[2, 1]]  # the third has the lowest logit


def test_true_class_is_no_candidate_even_where_another_is_predicted() -> None:
    order = malt_order(NET, X, torch.tensor([2]), norm=Norm.LINF, candidates=9)
    assert sorted(order[0].tolist()) == [0, 1, 3]


def test_class_without_a_gradient_comes_last() -> None:
    flat = Rows([[0.0] * 6, [0.0] * 6, [0.1] * 6], [4.0, 3.9, 0.0])
    assert malt_order(flat, X, torch.tensor([0]), norm=Norm.LINF, candidates=9).tolist() == [[2, 1]]


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_attack_takes_any_number_of_classes(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(classes, 6, generator=generator)
    net = Rows(rows.tolist(), (-rows.sum(dim=1) / 2).tolist())
    x = torch.rand(12, 3, 1, 2, generator=generator)
    inputs = AttackInput(net, x, net(x).argmax(dim=1))
    result = run_attack(attack_of("malt", targets=5, candidates=20), inputs, threat_model=threat("200/255"), seed=0)
    assert result.is_adversarial.float().mean() > 0.8
