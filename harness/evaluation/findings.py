"""Names and meaning of what is measured for the sanity checks while a condition runs; kept in every condition's result."""

from collections.abc import Mapping
from enum import StrEnum
from typing import get_args

from harness.attacks.base import Access, Attack, Shortfall
from harness.attacks.evidence import Evidence

FARTHEST = 1e9
"""Written instead of infinity, which JSON has not."""
ACCESS: tuple[Access, ...] = get_args(Access)
"""`Finding.ACCESS` is a position in this tuple."""
STAGE = "adversarial_by_stage_"
"""Begins the names of the findings that `stages_of` reads: one for each stage of an ensemble."""

SHORTFALLS: tuple[Shortfall, ...] = get_args(Shortfall)
"""`Finding.SHORTFALL` is a position in this tuple."""


class Finding(StrEnum):
    """A measured value of a condition."""

    ACCESS = "access"
    """What the attack uses of the model: a position in `ACCESS`."""
    CONCLUSIVE = "conclusive"
    """1 where the attack is strong enough for a headline number, else 0."""
    SHORTFALL = "shortfall"
    """What a strong attack lacks to be conclusive: a position in `SHORTFALLS`; missing where there is nothing."""
    MARGIN = "margin"
    """1 where one of the attack's losses compares logits with each other, which bounded outputs do not weaken; else 0."""
    BATCH_SIZE = "batch_size"
    """Images of a full batch: random starts and the last digits depend on it."""
    COMPILED = "compiled"
    """1 where the attack differentiated a compiled network, 0 where that failed; missing where it was not asked for."""
    BFLOAT16 = "bfloat16"
    """The same of bfloat16."""
    TARGET_CLASS = "target_class"
    """Index of the class that a targeted attack aims at; missing where it has none."""
    ATTACKED = "attacked"
    """Examples that were attacked at this budget, once a restart; missing where there were none."""
    GRADIENTS = "gradients"
    """Backward passes of each attacked example, on average."""
    ZERO_GRADIENT = "zero_gradient_share"
    """Examples all of whose gradients were zero, in every restart, as a share of `ATTACKED`."""
    NONFINITE_GRADIENT = "nonfinite_gradient_share"
    """Examples with a NaN or infinite gradient, as a share of `ATTACKED`."""
    SILENT_SUCCESS = "silent_success_share"
    """Share of the attacked examples of which the attack was shown an adversarial, and returned another image that is none."""
    RAW_VIOLATION = "raw_violation"
    """Largest distance outside ball or bounds of a finite image that the attack returned, before the frame projected it."""
    NONFINITE_IMAGES = "nonfinite_images_share"
    """Images with a NaN or infinite pixel, as a share of those that the attack returned of examples it had not broken."""
    DOUBLED_STEPS_TRIED = "doubled_steps_tried"
    """Survivors on which the attack was run again with twice the steps."""
    DOUBLED_STEPS_BROKEN = "doubled_steps_broken"
    """How many of them that broke."""
    PROBED = "probed"
    """Correctly classified examples on which the model was probed."""
    RANDOM_FORWARD = "random_forward"
    """Largest difference of logits between two passes of the same images, relative to the largest logit."""
    BATCH_DEPENDENCE = "batch_dependence"
    """Largest difference of an image's logits between batches, relative to the largest logit; 0 where rounding explains it."""
    BATCH_CHANGES = "batch_changes_share"
    """Share of the images so tried whose class changes with the batch, where all images of it are those of the data set."""
    PROBABILITIES = "probabilities"
    """1 where the outputs of every probed example are probabilities: in [0,1], with sum 1; else 0."""
    NO_GRADIENT = "no_gradient"
    """1 where no gradient passes through the network to its images; missing where one does, be it zero."""
    BOUNDED = "bounded_outputs"
    """1 where the outputs are squashed into an interval, as by a sigmoid, and saturate at its ends; else 0."""
    UNBOUNDED_SURVIVORS = "unbounded_survivors_share"
    """Share of the probed examples that stand under gradient attack with a budget of the whole pixel range."""
    WRONG_GRADIENT = "wrong_gradient_share"
    """Share of a few examples on which differences of outputs are not what the gradient says; missing where it has none."""
    FLAT_GRADIENT = "flat_gradient_share"
    """Share of the same on which outputs change over larger steps, and the gradient is zero or next to it."""


def findings_of(attack: Attack, evidence: Evidence, *, classes: int, batch_size: int) -> dict[str, float]:
    """Returns what the passes of an attack at one budget showed, in batches of up to `batch_size` images."""
    kind = {
        Finding.ACCESS.value: float(ACCESS.index(attack.ACCESS)),
        Finding.CONCLUSIVE.value: float(attack.conclusive(classes)),
        Finding.MARGIN.value: float(attack.MARGIN),
        Finding.BATCH_SIZE.value: float(batch_size),
    }
    if (shortfall := attack.shortfall(classes)) is not None:
        kind[Finding.SHORTFALL.value] = float(SHORTFALLS.index(shortfall))
    if not evidence.attacked:
        return kind
    return kind | {
        Finding.ATTACKED.value: float(evidence.attacked),
        Finding.GRADIENTS.value: evidence.gradients / evidence.attacked,
        Finding.ZERO_GRADIENT.value: evidence.zero_gradients / evidence.attacked,
        Finding.NONFINITE_GRADIENT.value: evidence.nonfinite_gradients / evidence.attacked,
        Finding.SILENT_SUCCESS.value: evidence.silent_successes / evidence.attacked,
        Finding.RAW_VIOLATION.value: min(evidence.finite_violation, FARTHEST),
        Finding.NONFINITE_IMAGES.value: evidence.nonfinite_images / max(1, evidence.returned),
        **{f"{STAGE}{name}": float(count) for name, count in evidence.stages.items()},
    }


def stages_of(findings: Mapping[str, float]) -> dict[str, int]:
    """Returns the stages of an ensemble that ran at a budget, and how many examples each made adversarial there.

    >>> stages_of({"adversarial_by_stage_apgd-ce": 12.0, "adversarial_by_stage_square": 1.0, "attacked": 40.0})
    {'apgd-ce': 12, 'square': 1}
    """
    return {name.removeprefix(STAGE): int(count) for name, count in findings.items() if name.startswith(STAGE)}
