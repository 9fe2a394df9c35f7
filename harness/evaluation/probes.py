"""Cheap experiments on a few examples that tell whether attacks on a network mean anything."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.evidence import Evidence
from harness.attacks.frame import Victim, run_attack
from harness.evaluation.batches import load
from harness.evaluation.findings import FARTHEST, Finding
from harness.evaluation.gradient_check import check_gradients
from harness.evaluation.output_check import are_bounded, are_probabilities
from harness.images import ImageSplit
from harness.models.agreement import relative_difference
from harness.system.seeds import seed_of
from harness.threat import Norm, ThreatModel

UNBOUNDED_STEPS = 20
GRADIENT_PROBES = 6
"""Examples on which gradients are compared with differences of outputs."""


def probe_model(
    model: nn.Module,
    split: ImageSplit,
    clean_logits: NDArray[np.float32],
    *,
    probes: int = 16,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Mapping[str, float]:
    """Looks for random outputs, bounded outputs in place of logits, gradients that lead nowhere or are those of something else.

    Args:
        model: The network, on the device.
        split: The examples.
        clean_logits: Logits (N, K) on them.
        probes: Number of correctly classified examples to use, spread over the classes.
        device: Where to run.
        seed: Seeds the experiments.

    Returns:
        The findings PROBED, RANDOM_FORWARD, PROBABILITIES, BOUNDED and UNBOUNDED_SURVIVORS, and those of `check_gradients`;
        nothing if no example is correct.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5; Croce et al. 2021,
        https://arxiv.org/abs/2010.09670, on what makes an evaluation unreliable.
    """
    labels = np.asarray(split.labels)
    chosen = spread((clean_logits.argmax(axis=1) == labels).nonzero()[0], labels, probes)
    if not len(chosen):
        return {}
    batch = load(split, chosen, device)
    with torch.no_grad():
        first, second = model(batch.x).float(), model(batch.x).float()
    attack = ATTACKS.parse({"name": "pgd", "steps": UNBOUNDED_STEPS, "alpha_relative": "1/10", "random_start": False})
    unbounded = run_attack(
        attack,
        Victim(model, batch.x, batch.y),
        threat_model=ThreatModel(norm=Norm.LINF, eps="1"),
        seed=seed_of(seed, "unbounded"),
    )
    few = slice(0, None, -(-len(chosen) // GRADIENT_PROBES))
    return {
        Finding.PROBED.value: float(len(chosen)),
        Finding.RANDOM_FORWARD.value: _random_difference(first, second),
        Finding.PROBABILITIES.value: float(are_probabilities(first)),
        Finding.BOUNDED.value: float(are_bounded(model, batch.x)),
        Finding.UNBOUNDED_SURVIVORS.value: 1 - float(unbounded.fooled.float().mean()),
        **check_gradients(model, batch.x[few], batch.y[few], seed=seed_of(seed, "gradients")),
    }


def can_double(attack: Attack) -> bool:
    """Returns whether an attack has a number of steps whose doubling says something."""
    return attack.ACCESS == "iterative" and not attack.MINIMUM_NORM and "steps" in type(attack).model_fields


def probe_steps(attack: Attack, victim: Victim, *, threat_model: ThreatModel, seed: int) -> tuple[Mapping[str, float], Evidence]:
    """Attacks survivors again with twice the steps: an attack that has converged breaks few of them.

    What falls to another random start with the steps it had says nothing of convergence: where any falls, the attack is
    run with its own steps and the same seed as well, and only what that leaves standing counts.

    Returns:
        The findings DOUBLED_STEPS_TRIED and DOUBLED_STEPS_BROKEN, and the passes that they cost.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.4: verify that attacks have converged.
    """
    doubled, seed = attack.model_copy(update={"steps": 2 * attack.model_dump()["steps"]}), seed_of(seed, "doubled steps")
    twice = run_attack(doubled, victim, threat_model=threat_model, seed=seed)
    fooled, passes = twice.fooled, Evidence(forwards=twice.evidence.forwards, backwards=twice.evidence.backwards)
    if fooled.any():
        once = run_attack(attack, victim, threat_model=threat_model, seed=seed)
        fooled = fooled[~once.fooled]
        passes += Evidence(forwards=once.evidence.forwards, backwards=once.evidence.backwards)
    findings = {
        Finding.DOUBLED_STEPS_TRIED.value: float(len(fooled)),
        Finding.DOUBLED_STEPS_BROKEN.value: float(fooled.sum()),
    }
    return findings, passes


def spread(indices: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> list[int]:
    """Returns at most `count` of the indices, evenly over the classes."""
    ordered: Sequence[int] = sorted((int(index) for index in indices), key=lambda index: int(labels[index]))
    positions = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[position] for position in positions]


def _random_difference(first: Tensor, second: Tensor) -> float:
    """Returns how far two passes of the same images lie apart, of the largest logit; NaN in both is no difference."""
    both = first.isnan() & second.isnan()
    return min(relative_difference(second.masked_fill(both, 0.0), first.masked_fill(both, 0.0)), FARTHEST)
