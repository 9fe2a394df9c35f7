"""What the run of a condition showed, for the sanity checks: counts and maxima that add up over the parts of a split."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

Access = Literal["none", "single_step", "iterative", "black_box", "ensemble"]
"""What an attack uses of the model: nothing (a control), one gradient, many, only outputs, or several attacks."""
Shortfall = Literal["budgets", "classes", "audit"]
"""Why a strong attack is not conclusive: smaller budgets than it is known by, too few classes for a stage, or no audit."""
FARTHEST = 1e9
"""Stands for infinity, which JSON has not."""

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class NetworkEvidence:
    """What a few clean examples showed about a network."""

    probed: int = 0
    """Correctly classified examples on which the network was probed."""
    unbounded_failures: int = 0
    """Those of them that a gradient attack with a budget of the whole pixel range does not make adversarial."""
    probabilities: int = 0
    """Those whose outputs are probabilities: in [0,1], with sum 1."""
    bounded: bool = False
    """Whether the outputs are squashed into an interval, as by a sigmoid, and saturate at its ends."""
    no_gradient: bool = False
    """Whether no gradient passes through the network to its images; False where one does, be it zero."""
    random_forward: float = 0.0
    """Largest difference of logits between two passes of the same images, relative to the largest logit."""
    batch_tried: int = 0
    """Images that were passed in other batches."""
    batch_changed: int = 0
    """Those whose class changes with the batch, where all images of it are those of the data set."""
    batch_dependence: float = 0.0
    """Largest difference of an image's logits between batches, relative to the largest logit; 0 where rounding explains it."""
    gradients_compared: int = 0
    """Examples on which gradients were compared with differences of outputs; 0 where the network has none."""
    gradients_wrong: int = 0
    """Those on which the differences are not what the gradient says."""
    gradients_flat: int = 0
    """Those on which outputs change over larger steps, and the gradient is zero or next to it."""

    def __add__(self, other: "NetworkEvidence") -> "NetworkEvidence":
        pairs = {it.name: (getattr(self, it.name), getattr(other, it.name)) for it in fields(self)}
        merged: dict[str, Any] = {name: _largest(*it) if _is_maximum(it[0]) else sum(it) for name, it in pairs.items()}
        return NetworkEvidence(**merged)


@dataclass(frozen=True)
class StageEvidence:
    """What one stage of an ensemble achieved and cost."""

    attacked: int = 0
    """Examples that were left for it."""
    adversarial: int = 0
    """Those of them that it made adversarial."""
    forwards: int = 0
    """Forward passes x examples."""
    backwards: int = 0
    """Backward passes x examples."""
    seconds: float = 0.0
    """Wall time."""

    def __add__(self, other: "StageEvidence") -> "StageEvidence":
        return StageEvidence(*(getattr(self, it.name) + getattr(other, it.name) for it in fields(self)))


@dataclass(frozen=True)
class AuditEvidence:
    """What AutoAttack standard made of a random sample of the examples on which an ensemble had no success."""

    survivors: int = 0
    """Examples without success at the end, those of the sample included."""
    sampled: int = 0
    """Those of them that every stage of the standard was run on."""
    broken: int = 0
    """Examples of the samples, over all rounds, on which a stage succeeded."""
    escalated: tuple[str, ...] = ()
    """The stages that succeeded, and were then run on all survivors."""

    def __add__(self, other: "AuditEvidence") -> "AuditEvidence":
        return AuditEvidence(
            survivors=self.survivors + other.survivors,
            sampled=self.sampled + other.sampled,
            broken=self.broken + other.broken,
            escalated=tuple(dict.fromkeys((*self.escalated, *other.escalated))),
        )


@dataclass(frozen=True)
class Evidence:
    """What an attack's run on some examples showed; of a clean run what is known of the network.

    An example counts once a restart, unless a count says otherwise. The evidence of the parts of a split, each of which was
    attacked in the same way, adds up to that of the whole.
    """

    access: Access | None = None
    """What the attack uses of the model; None where there was no attack."""
    conclusive: bool = False
    """Whether the attack is strong enough for a headline number."""
    shortfall: Shortfall | None = None
    """What a strong attack lacks to be conclusive."""
    margin: bool = False
    """Whether one of the attack's losses compares logits with each other, which bounded outputs do not weaken."""
    target_class: int | None = None
    """Index of the class that a targeted attack aims at."""
    batch_size: int = 0
    """Images of a full batch, on which random starts and the last digits depend; 0 where it is not known."""
    compiled: bool | None = None
    """Whether the attack differentiated a compiled network; None where it was not asked for."""
    bfloat16: bool | None = None
    """The same of bfloat16."""
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
    """Images that the attack returned of examples on which no iterate of it was a success."""
    nonfinite_images: int = 0
    """Those of them with a pixel that is NaN or infinite; in their place the original pixels are judged."""
    mode_switches: int = 0
    """Calls by which the attack asked for training mode; the watcher keeps them from the network."""
    doubled_steps_tried: int = 0
    """Examples without success on which the attack was run again with twice its steps."""
    doubled_steps_successes: int = 0
    """Those of them on which that was a success."""
    skipped: int = 0
    """Under `bisect`: examples that were not attacked, as an attack at a larger budget had no success."""
    skipped_tried: int = 0
    """Those of them that were attacked all the same afterwards: a random part, or all where that had any success."""
    skipped_successes: int = 0
    """Those of them on which that was a success."""
    violation: float = 0.0
    """Largest distance outside ball or bounds of a finite image that the attack returned, before the frame projected it."""
    stages: Mapping[str, StageEvidence] = field(default_factory=dict)
    """Of an ensemble: what each stage that ran achieved and cost, those of its audit included."""
    audit: AuditEvidence | None = None
    """Of an ensemble that is audited: what the audit found; None where there was none."""
    network: NetworkEvidence = NetworkEvidence()
    """What was found out about the network, on clean images."""

    def __add__(self, other: "Evidence") -> "Evidence":
        """Returns the evidence of both parts.

        Raises:
            ValueError: if the parts are of different attacks.
        """
        return Evidence(
            access=_same("access", self.access, other.access),
            conclusive=self.conclusive or other.conclusive,
            shortfall=_same("shortfall", self.shortfall, other.shortfall),
            margin=self.margin or other.margin,
            target_class=_same("target_class", self.target_class, other.target_class),
            batch_size=max(self.batch_size, other.batch_size),
            compiled=_both(self.compiled, other.compiled),
            bfloat16=_both(self.bfloat16, other.bfloat16),
            **{name: getattr(self, name) + getattr(other, name) for name in COUNTS},
            violation=max(self.violation, other.violation),
            stages={
                name: self.stages.get(name, StageEvidence()) + other.stages.get(name, StageEvidence())
                for name in {**self.stages, **other.stages}
            },
            audit=(self.audit or AuditEvidence()) + (other.audit or AuditEvidence()) if self.audit or other.audit else None,
            network=self.network + other.network,
        )


COUNTS = (
    *("attacked", "forwards", "backwards", "gradients", "zero_gradients", "nonfinite_gradients", "silent_successes"),
    *("returned", "nonfinite_images", "mode_switches", "doubled_steps_tried", "doubled_steps_successes"),
    *("skipped", "skipped_tried", "skipped_successes"),
)
"""Fields of `Evidence` that add up."""


def _is_maximum(value: object) -> bool:
    return isinstance(value, bool | float)


def _largest(*values: float) -> float:
    """Returns the largest value; NaN, which compares with nothing, where one is NaN."""
    return max(values, key=lambda value: math.inf if math.isnan(value) else value)


def _same(name: str, left: ValueT | None, right: ValueT | None) -> ValueT | None:
    """Returns what two parts have in common; None says nothing."""
    if left is not None and right is not None and left != right:
        raise ValueError(f"evidence.{name}: expected parts of one attack, got {left!r} and {right!r}")
    return right if left is None else left


def _both(left: bool | None, right: bool | None) -> bool | None:
    known = [value for value in (left, right) if value is not None]
    return all(known) if known else None
