"""Nets so confident that their gradients are tiny: attacks that go by the gradient's length must still find the way."""

import pytest
import torch
from torch import Tensor, nn

from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from tests.attacks.nets import CLASSES, SIDE, attack_of, images, threat

STEPS = 20


class Confident(nn.Module):
    """Two layers over raw pixels whose logits are `scale` times as large as usual."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = torch.randn(24, 3 * SIDE * SIDE, generator=generator) * 0.3
        self.last = torch.randn(CLASSES, 24, generator=generator) * scale

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh((x - 0.5).flatten(1) @ self.first.T) @ self.last.T


def _broken(name: str, scale: float) -> int:
    net, x = Confident(scale), images(60, low=0.0, high=1.0)
    inputs = AttackInput(net, x, net(x).argmax(dim=1))
    return int(run_attack(attack_of(name, steps=STEPS), inputs, threat_model=threat("1/4", "L2"), seed=0).is_adversarial.sum())


@pytest.mark.parametrize("scale", [1, 10, 20, 40])
def test_apgd_in_l2_is_no_weaker_than_pgd_however_confident_the_net(scale: float) -> None:
    assert _broken("apgd-ce", scale) >= _broken("pgd", scale) - 1
