"""The scores of one runtime on one condition of a bundle."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from harness import metrics
from harness.bundle import Bundle, BundleCondition
from harness.deployment.agreement import Comparison, Rule
from harness.metrics import Flags

BATCH = 32
"""Images of a forward pass, in every runtime."""

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images (N, 3, R, R) to logits (N, K)."""


@dataclass(frozen=True)
class Score:
    """The numbers of one condition in one runtime; NaN where one is not defined."""

    condition: BundleCondition
    n_examples: int
    accuracy: float
    robust_accuracy: float
    attack_success_rate: float
    agreement: float
    """Share of the examples with the class that PyTorch's stored logits have."""
    flips: int | None
    flips_outside_margin: int | None
    max_difference: float
    p99_difference: float
    images_per_second: float
    """Includes the reading of the bundle."""
    reasons: tuple[str, ...]
    """What breaks the rule of agreement; nothing where the runtimes agree."""
    judged: bool = True
    """Whether the stored logits exist and were expected; what needs no reference breaks the rule all the same."""
    matches: bool | None = None
    """Whether these are the stored logits, by the rule, whether or not they were expected; None where there are none."""
    threads: int | None = None
    """Threads inside an operator; None where the runtime chose."""
    version: str = ""
    """Of the runtime's library."""
    p99_relative: float = float("nan")
    """What the rule bounds: the 99th percentile of the differences divided by the scale of their example."""
    clipped_share: float = float("nan")
    """Share of the pixel values of the images that the file clips and the float model does not; NaN for a float file."""


def scores_of(bundle: Bundle, forward: Forward, rule: Rule) -> Iterator[Score]:
    """Yields the scores of every condition of a bundle, computed a batch at a time; clean ones come before those that name them.

    Raises:
        DataError: if the bundle is damaged.
    """
    forward(np.full((BATCH, *bundle.conditions[0].shape), 0.5, np.float32))  # the first pass allocates and tunes
    correct: dict[str, Flags] = {}
    for stored in sorted(bundle.conditions, key=lambda found: found.spec.kind != "clean"):
        condition, started = stored.spec, perf_counter()
        labels, comparison = _run(bundle, condition.name, forward)
        seconds = perf_counter() - started
        correct[condition.name] = comparison.predicted == labels
        robust, success = float("nan"), float("nan")
        if condition.clean is not None and condition.attacked:
            before = correct[condition.clean][bundle.rows(condition.name)]
            robust, success = _robustness(comparison.predicted, labels, before, target=condition.target_class)
        yield Score(
            condition=condition,
            n_examples=len(labels),
            accuracy=metrics.share(correct[condition.name]),
            robust_accuracy=robust,
            attack_success_rate=success,
            agreement=comparison.agreement,
            flips=len(comparison.flips) if stored.has_logits else None,
            flips_outside_margin=comparison.flips_outside(rule.margin) if stored.has_logits else None,
            max_difference=comparison.max_difference,
            p99_difference=comparison.p99_difference,
            p99_relative=comparison.p99_relative,
            images_per_second=len(labels) / seconds,
            reasons=comparison.disagreements(rule),
            judged=stored.has_logits and rule.expects_reference,
            matches=comparison.matches(rule),
        )


def _run(bundle: Bundle, name: str, forward: Forward) -> tuple[NDArray[np.int64], Comparison]:
    labels, references, found = [], [], []
    for batch in bundle.batches(name, BATCH):
        labels.append(batch.y)
        found.append(forward(batch.x))
        if batch.logits is not None:
            references.append(batch.logits)
    reference = np.concatenate(references) if references else None
    return np.concatenate(labels), Comparison(reference, np.concatenate(found))


def _robustness(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], before: Flags, *, target: int | None
) -> tuple[float, float]:
    """Returns robust accuracy and attack success rate; success is any wrong class, or the target where there is one."""
    is_adversarial = predicted != labels if target is None else (predicted == target) & (labels != target)
    eligible = before if target is None else before & (labels != target)
    return metrics.robust_accuracy(before, is_adversarial), metrics.attack_success_rate(eligible, is_adversarial)
