"""AutoAttack's four attacks with the original's budgets, by torchattacks' own composition and by the harness."""

from fractions import Fraction

import torch
import torchattacks
from torch import nn

from harness.attacks.base import ATTACKS
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.threat import ThreatModel
from tests.bench.contenders import robust_share
from tests.bench.workload import Workload

STRONG_EPS = Fraction(16, 255)
STEPS, QUERIES, RESTARTS = 100, 5000, 1


def plain_multi_attack(model: nn.Module, workload: Workload) -> float:
    """Returns the robust accuracy that is left by torchattacks' MultiAttack over APGD-CE, APGD-T, FAB-T and Square."""
    eps, classes = float(STRONG_EPS), int(workload.y.max()) + 1
    parts = [
        torchattacks.APGD(model, eps=eps, steps=STEPS, n_restarts=RESTARTS),
        torchattacks.APGDT(model, eps=eps, steps=STEPS, n_restarts=RESTARTS, n_classes=classes),
        torchattacks.FAB(model, eps=eps, steps=STEPS, n_restarts=RESTARTS, n_classes=classes, multi_targeted=True),
        torchattacks.Square(model, eps=eps, n_queries=QUERIES, n_restarts=RESTARTS),
    ]
    return robust_share(model, workload, torchattacks.MultiAttack(parts))


def harness_strong(model: nn.Module, workload: Workload) -> float:
    """Returns the robust accuracy that is left by the harness's `strong`."""
    outcome = sweep(
        model, workload.split, SweepSettings(ATTACKS.parse("strong"), (ThreatModel(eps=STRONG_EPS),)), device=workload.device
    )
    correct = torch.from_numpy(outcome.clean_logits).argmax(dim=1).numpy() == outcome.labels
    return float((correct & ~outcome.conditions[0].is_adversarial).mean())
