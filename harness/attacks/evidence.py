"""What running an attack showed: passes, gradients, violations. Counts that add up over batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.attacks.watcher import Watcher


@dataclass(frozen=True)
class Evidence:
    """Counts of one attack on one or more batches; an example counts once a restart."""

    attacked: int = 0
    """Examples that were attacked."""
    forwards: int = 0
    """Forward passes x examples, those of the frame's own checks included."""
    backwards: int = 0
    """Backward passes x examples."""
    gradients: int = 0
    """Gradients of examples that were looked at; equals `backwards`, but is kept where the passes are charged elsewhere."""
    zero_gradients: int = 0
    """Examples all of whose gradients were zero in every pixel, in every restart; each counts once."""
    nonfinite_gradients: int = 0
    """Examples with a NaN or infinite gradient in any restart; each counts once."""
    silent_successes: int = 0
    """Examples of which the attack was shown an adversarial inside the ball, and returned another image that is none."""
    returned: int = 0
    """Images that the attack returned of examples that no iterate of it had broken."""
    nonfinite_images: int = 0
    """Those of them with a pixel that is NaN or infinite; in their place the original pixels are judged."""
    mode_switches: int = 0
    """Calls by which the attack asked for training mode; the watcher keeps them from the network."""
    violation: float = 0.0
    """Largest distance outside ball or bounds of a returned image, before the frame projected it; inf if one is not finite."""
    finite_violation: float = 0.0
    """The same of the images that are finite."""
    stages: Mapping[str, int] = field(default_factory=dict)
    """Of an ensemble: each stage that ran, and how many examples it made adversarial."""

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            attacked=self.attacked + other.attacked,
            forwards=self.forwards + other.forwards,
            backwards=self.backwards + other.backwards,
            gradients=self.gradients + other.gradients,
            zero_gradients=self.zero_gradients + other.zero_gradients,
            nonfinite_gradients=self.nonfinite_gradients + other.nonfinite_gradients,
            silent_successes=self.silent_successes + other.silent_successes,
            returned=self.returned + other.returned,
            nonfinite_images=self.nonfinite_images + other.nonfinite_images,
            mode_switches=self.mode_switches + other.mode_switches,
            violation=max(self.violation, other.violation),
            stages={name: self.stages.get(name, 0) + other.stages.get(name, 0) for name in {**self.stages, **other.stages}},
            finite_violation=max(self.finite_violation, other.finite_violation),
        )


class GradientFaults:
    """Which examples of a batch had no gradients to go by, over all restarts.

    Args:
        x: The images (N, C, H, W).
    """

    def __init__(self, x: Tensor) -> None:
        """See the class."""
        self.zero = torch.ones(len(x), dtype=torch.bool, device=x.device)
        self.nonfinite = torch.zeros_like(self.zero)

    def note(self, rows: Tensor, watched: Watcher) -> None:
        """Notes a restart on the examples `rows` (n,)."""
        self.zero[rows] &= watched.blind
        self.nonfinite[rows] |= watched.nonfinite_gradients

    @property
    def evidence(self) -> Evidence:
        """Their numbers; all examples must have been attacked."""
        return Evidence(zero_gradients=int(self.zero.sum()), nonfinite_gradients=int(self.nonfinite.sum()))


def evidence_of(watched: Watcher, *, silent: Tensor, violation: Tensor, fooled: Tensor) -> Evidence:
    """Sums up what a watcher saw of one restart, but for the gradients, see `GradientFaults`.

    Args:
        watched: The watcher of a batch of N examples.
        silent: (n,) whether an example's success was lost by the attack.
        violation: (n,) of the images that the attack returned, infinite where a pixel is not finite; may be empty.
        fooled: (n,) whether an example's image is adversarial now.
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
        violation=float(violation.max()) if len(violation) else 0.0,
        stages=watched.found_by_stage(fooled),
        finite_violation=float(finite.max()) if len(finite) else 0.0,
    )
