"""Networks that decide the same, but ever more confidently: an attack leaves as many examples, or its number is no PASS."""

from functools import cache

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import harness
from harness.attacks.base import ATTACKS
from harness.threat import Norm
from tests.attacks.nets import CLASSES, SIDE, images

QUICK = {"steps": 20, "fab_steps": 3, "queries": 20, "targets": 3, "search_steps": 3}
BUDGETS = {Norm.LINF: "1/50", Norm.L2: "1/4", Norm.L1: "2"}
SCALES = (1.0, 3.0, 10.0, 30.0, 100.0)
COUNT = 40
BOUND = 0.05
"""By how much more a PASS may leave than the same attack did of the network as it is: two examples."""
BOUND_OF_WEIGHTS = 0.15
"""CW weighs the margin of the logits themselves against the distance, so that its weights are other ones at each scale."""


class Confident(nn.Module):
    """Two layers over raw pixels whose logits are `scale` times as large as usual."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = torch.randn(24, 3 * SIDE * SIDE, generator=generator) * 0.3
        self.last = torch.randn(CLASSES, 24, generator=generator) * scale

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh((x - 0.5).flatten(1) @ self.first.T) @ self.last.T


@cache
def _judged(name: str, norm: Norm, scale: float) -> pd.Series:
    net, x, cls = Confident(scale), images(COUNT, low=0.0, high=1.0), ATTACKS.get(name)
    attack = {"name": name, **{field: value for field, value in QUICK.items() if field in cls.model_fields}}
    threat_model = harness.ThreatModel(norm=norm, eps=BUDGETS[norm])
    return harness.evaluate(net, (x, net(x).argmax(dim=1)), attacks=attack, threat_model=threat_model).iloc[1]


CASES = [(name, norm) for name in ATTACKS.names() for norm in Norm if norm in ATTACKS.get(name).NORMS]


@pytest.mark.parametrize("scale", SCALES[1:])
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_confidence_hides_nothing_from_an_attack_that_passes(name: str, norm: Norm, scale: float) -> None:
    usual, confident = _judged(name, norm, 1.0), _judged(name, norm, scale)
    assert (usual["status"], confident["status"]) == ("done", "done")
    weaker = confident["robust_accuracy"] - usual["robust_accuracy"]
    if weaker > (BOUND_OF_WEIGHTS if name == "cw" else BOUND):
        assert confident["verdict"] != "PASS"
        assert confident["verdict_reasons"]


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, norm in CASES if name != "random_noise"])
def test_attack_is_no_weaker_on_logits_ten_times_as_large(name: str, norm: Norm) -> None:
    """Margins of up to 100, whose cross-entropy still has a gradient in float32."""
    weaker = _judged(name, norm, 10.0)["robust_accuracy"] - _judged(name, norm, 1.0)["robust_accuracy"]
    assert weaker <= (BOUND_OF_WEIGHTS if name == "cw" else BOUND)
