"""Sums up what a watcher saw as evidence."""

from torch import Tensor

from harness.attacks.watcher import Watcher
from harness.records.evidence import FARTHEST, Evidence


def evidence_of(watched: Watcher, *, silent: Tensor, violation: Tensor, is_adversarial: Tensor) -> Evidence:
    """Sums up what a watcher saw of one restart, but for the gradients, see `harness.attacks.faults`.

    Args:
        watched: The watcher of a batch of N examples.
        silent: (n,) whether an example's success was lost by the attack.
        violation: (n,) of the images that the attack returned, infinite where a pixel is not finite; may be empty.
        is_adversarial: (n,) whether an example's image is adversarial now.
    """
    finite = violation[violation.isfinite()]
    return Evidence(
        attacked=len(watched.x),
        forwards=watched.forwards,
        backwards=watched.backwards,
        gradients=watched.backwards,
        silent_successes=int(silent.sum()),
        returned=len(violation),
        nonfinite_images=len(violation) - len(finite),
        mode_switches=watched.mode_switches,
        stages=watched.successes_by_stage(is_adversarial),
        violation=min(float(finite.max()), FARTHEST) if len(finite) else 0.0,
    )
