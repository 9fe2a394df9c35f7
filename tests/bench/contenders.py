"""PGD-10 at five budgets by four programs: each gets a network, images and labels, and returns robust accuracies."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial

import foolbox
import numpy as np
import torch
import torchattacks
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from harness.attacks.base import ATTACKS
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.records import Protocol
from harness.threat import ThreatModel
from tests.bench.workload import Workload

STEPS = 10
RELATIVE_STEP = 0.25
"""Step size alpha as a share of eps, the same for every contender."""
Sweep = Callable[[nn.Module, Workload, Sequence[Fraction]], list[float]]


def plain_torchattacks(model: nn.Module, workload: Workload, budgets: Sequence[Fraction]) -> list[float]:
    """The loop that its users write: every example at every budget, contiguous tensors."""
    return [
        robust_share(
            model,
            workload,
            torchattacks.PGD(model, eps=float(eps), alpha=float(eps) * RELATIVE_STEP, steps=STEPS, random_start=True),
        )
        for eps in budgets
    ]


def art_pgd(model: nn.Module, workload: Workload, budgets: Sequence[Fraction]) -> list[float]:
    """ART's PGD on its PyTorch classifier."""
    classifier = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(workload.x.shape[1:]),
        nb_classes=int(workload.y.max()) + 1,
        clip_values=(0.0, 1.0),
        device_type="cpu" if workload.device.type == "cpu" else "gpu",
    )

    def attacked(x: Tensor, y: Tensor, eps: float) -> Tensor:
        attack = ProjectedGradientDescentPyTorch(
            classifier,
            eps=eps,
            eps_step=eps * RELATIVE_STEP,
            max_iter=STEPS,
            num_random_init=1,
            batch_size=workload.batch,
            verbose=False,
        )
        return torch.from_numpy(attack.generate(x.cpu().numpy(), y.cpu().numpy()).astype(np.float32)).to(workload.device)

    return [robust_share(model, workload, lambda x, y, eps=float(eps): attacked(x, y, eps)) for eps in budgets]


def foolbox_pgd(model: nn.Module, workload: Workload, budgets: Sequence[Fraction]) -> list[float]:
    """Foolbox's LinfPGD."""
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=workload.device)
    attack = foolbox.attacks.LinfPGD(rel_stepsize=RELATIVE_STEP, steps=STEPS, random_start=True)
    return [
        robust_share(model, workload, lambda x, y, eps=float(eps): attack(wrapped, x, y, epsilons=eps)[1].detach())
        for eps in budgets
    ]


def harness_sweep(
    model: nn.Module, workload: Workload, budgets: Sequence[Fraction], protocol: Protocol = "nested"
) -> list[float]:
    """The harness as `harness run` uses it: nested budgets over the active examples, watcher, inference form."""
    outcome = sweep(
        model,
        workload.split,
        SweepSettings(
            ATTACKS.parse({"name": "pgd", "steps": STEPS, "alpha_relative": str(RELATIVE_STEP)}),
            tuple(ThreatModel(eps=eps) for eps in budgets),
            protocol=protocol,
        ),
        device=workload.device,
    )
    correct = outcome.clean_logits.argmax(axis=1) == outcome.labels
    return [float((correct & ~condition.is_adversarial).mean()) for condition in outcome.conditions]


def robust_share(model: nn.Module, workload: Workload, attack: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Returns the share of examples that are correct after the attack."""
    correct = 0
    for x, y in zip(workload.x.split(workload.batch), workload.y.split(workload.batch), strict=True):
        x_adv = attack(x, y)
        with torch.no_grad():
            correct += int((model(x_adv).argmax(dim=1) == y).sum())
    return correct / len(workload.y)


CONTENDERS: dict[str, Sweep] = {
    "torchattacks, plain loop": plain_torchattacks,
    "ART": art_pgd,
    "foolbox": foolbox_pgd,
    "harness": harness_sweep,
    "harness, bisect": partial(harness_sweep, protocol="bisect"),
}
