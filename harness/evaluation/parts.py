"""The outcomes of the parts of a split as that of the whole."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np

from harness.records import ConditionResult, Outcome
from harness.system.device import CPU_BATCH

PASSES = 100_000
"""Forward passes of one image in a part whose size is left open; a backward pass counts as two."""
LEAST_BATCHES = 4
"""Full batches of such a part at least: at each budget its last pass is filled up with copies, and so partly in vain."""

logger = logging.getLogger(__name__)


def size_of_part(cost: int, batch_size: int | None) -> int:
    """Returns the number of examples of a part where the suite leaves it open: the machine and its load change nothing.

    Args:
        cost: What an example costs at most, in forward passes.
        batch_size: Images of a full batch, where the suite names them.
    """
    batch = batch_size or CPU_BATCH
    return batch * max(LEAST_BATCHES, PASSES // (cost * batch))


def merged(parts: Sequence[Outcome]) -> Outcome:
    """Returns the outcome of a split from those of its parts, at least one, which were computed alike.

    Seconds and passes add up; memory and violations are the largest.

    Args:
        parts: The outcomes, in the order of the examples.
    """
    sizes = sorted({condition.evidence.batch_size or 0 for part in parts for condition in part.conditions})
    if len(sizes) > 1:
        logger.warning(
            "parts were computed in batches of %s images, as memory was short, or they are of different runs: the last digits of "
            "their logits are not those of one part",
            " and ".join(map(str, sizes)),
        )
    by_budget = zip(*(part.conditions for part in parts), strict=True)
    return Outcome(
        labels=np.concatenate([part.labels for part in parts]),
        clean_logits=np.concatenate([part.clean_logits for part in parts]),
        conditions=tuple(map(_merged_condition, by_budget)),
        smallest_eps=np.concatenate([part.smallest_eps for part in parts]),
    )


def _merged_condition(parts: Sequence[ConditionResult]) -> ConditionResult:
    return replace(
        parts[0],
        logits=np.concatenate([part.logits for part in parts]),
        is_adversarial=np.concatenate([part.is_adversarial for part in parts]),
        distance=np.concatenate([part.distance for part in parts]),
        max_violation=max(part.max_violation for part in parts),
        forwards=sum(part.forwards for part in parts),
        backwards=sum(part.backwards for part in parts),
        seconds=sum(part.seconds for part in parts),
        peak_memory_mb=max(part.peak_memory_mb for part in parts),
        evidence=reduce(add, (part.evidence for part in parts)),
    )
