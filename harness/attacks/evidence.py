"""What running an attack showed: passes, gradients, violations. Counts that add up over batches."""

from dataclasses import dataclass

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
    """Examples all of whose gradients were zero in every pixel."""
    nonfinite_gradients: int = 0
    """Examples with a NaN or infinite gradient."""
    silent_successes: int = 0
    """Examples with an adversarial iterate inside the ball whose returned image is none."""
    violation: float = 0.0
    """Largest distance outside ball or bounds of a returned image, before the frame projected it."""

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            attacked=self.attacked + other.attacked,
            forwards=self.forwards + other.forwards,
            backwards=self.backwards + other.backwards,
            gradients=self.gradients + other.gradients,
            zero_gradients=self.zero_gradients + other.zero_gradients,
            nonfinite_gradients=self.nonfinite_gradients + other.nonfinite_gradients,
            silent_successes=self.silent_successes + other.silent_successes,
            violation=max(self.violation, other.violation),
        )


def evidence_of(watched: Watcher, *, silent: Tensor, violation: Tensor) -> Evidence:
    """Sums up what a watcher saw.

    Args:
        watched: The watcher of a batch of N examples.
        silent: (n,) whether an example's success was lost by the attack.
        violation: (n,) of the images that the attack returned; may be empty.
    """
    dead = (watched.gradients > 0) & (watched.zero_gradients == watched.gradients)
    return Evidence(
        attacked=len(watched.x),
        forwards=watched.forwards,
        backwards=watched.backwards,
        gradients=watched.backwards,
        zero_gradients=int(dead.sum()),
        nonfinite_gradients=int(watched.nonfinite_gradients.sum()),
        silent_successes=int(silent.sum()),
        violation=float(violation.max()) if len(violation) else 0.0,
    )
