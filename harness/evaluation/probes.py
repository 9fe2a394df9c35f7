"""Cheap experiments on a few examples that tell whether attacks on a network mean anything."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.evaluation.batches import load, spread
from harness.evaluation.gradient_check import check_gradients
from harness.evaluation.output_check import are_bounded, are_probabilities
from harness.images import ImageSplit
from harness.models.agreement import relative_difference
from harness.records.evidence import FARTHEST, Evidence, NetworkEvidence
from harness.system.seeds import seed_of
from harness.threat import Norm, ThreatModel

UNBOUNDED_STEPS = 20
PROBE_RUNS = 3
"""What `probe_steps` costs at most, in runs of the attack: one with twice the steps, and one more where that succeeds."""
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
) -> NetworkEvidence:
    """Looks for random outputs, bounded outputs in place of logits, gradients that lead nowhere or are those of something else.

    Args:
        model: The network, on the device.
        split: The examples.
        clean_logits: Logits (N, K) on them.
        probes: Number of correctly classified examples to use, spread over the classes.
        device: Where to run.
        seed: Seeds the experiments.

    Returns:
        What was found, with what `check_gradients` finds; nothing if no example is correct.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5; Croce et al. 2021,
        https://arxiv.org/abs/2010.09670, on what makes an evaluation unreliable.
    """
    labels = np.asarray(split.labels)
    chosen = spread((clean_logits.argmax(axis=1) == labels).nonzero()[0], labels, probes)
    if not len(chosen):
        return NetworkEvidence()
    batch = load(split, chosen, device)
    with torch.no_grad():
        first, second = model(batch.x).float(), model(batch.x).float()
    attack = ATTACKS.parse({"name": "pgd", "steps": UNBOUNDED_STEPS, "alpha_relative": "1/10", "random_start": False})
    unbounded = run_attack(
        attack,
        AttackInput(model, batch.x, batch.y),
        threat_model=ThreatModel(norm=Norm.LINF, eps="1"),
        seed=seed_of(seed, "unbounded"),
    )
    few = slice(0, None, -(-len(chosen) // GRADIENT_PROBES))
    found = NetworkEvidence(
        probed=len(chosen),
        random_forward=_random_difference(first, second),
        probabilities=int(are_probabilities(first).sum()),
        bounded=are_bounded(model, batch.x),
        unbounded_failures=int((~unbounded.is_adversarial).sum()),
    )
    return found + check_gradients(model, batch.x[few], batch.y[few], seed=seed_of(seed, "gradients"))


def can_double(attack: Attack) -> bool:
    """Returns whether an attack has a number of steps whose doubling says something."""
    return attack.ACCESS == "iterative" and not attack.MINIMUM_NORM and "steps" in type(attack).model_fields


def probe_steps(attack: Attack, inputs: AttackInput, *, threat_model: ThreatModel, seed: int) -> Evidence:
    """Attacks examples without success again with twice the steps: an attack that has converged succeeds on few of them.

    A success from another random start with the steps it had says nothing of convergence: where there is any, the attack is
    run with its own steps and the same seed as well, and only examples without success of that count.

    Returns:
        How many were tried, on how many that was a success, and the passes that it cost.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 5.4: verify that attacks have converged.
    """
    doubled, seed = attack.model_copy(update={"steps": 2 * attack.model_dump()["steps"]}), seed_of(seed, "doubled steps")
    twice = run_attack(doubled, inputs, threat_model=threat_model, seed=seed)
    is_adversarial, passes = twice.is_adversarial, Evidence(forwards=twice.evidence.forwards, backwards=twice.evidence.backwards)
    if is_adversarial.any():
        once = run_attack(attack, inputs, threat_model=threat_model, seed=seed)
        is_adversarial = is_adversarial[~once.is_adversarial]
        passes += Evidence(forwards=once.evidence.forwards, backwards=once.evidence.backwards)
    return passes + Evidence(doubled_steps_tried=len(is_adversarial), doubled_steps_successes=int(is_adversarial.sum()))


def _random_difference(first: Tensor, second: Tensor) -> float:
    """Returns how far two passes of the same images lie apart, of the largest logit; NaN in both is no difference."""
    both = first.isnan() & second.isnan()
    return min(relative_difference(second.masked_fill(both, 0.0), first.masked_fill(both, 0.0)), FARTHEST)
