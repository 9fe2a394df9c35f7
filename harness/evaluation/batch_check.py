"""Whether the logits of an image depend on the other images of its batch, found out with a few passes of a few images.

Attacks pass batches of the examples without success, and move every image in them: a network that looks at the whole batch
answers otherwise each time, and its accuracy is that of one order of the examples.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.evaluation.batches import load, spread
from harness.images import ImageSplit
from harness.metrics import logit_differences
from harness.models.agreement import of_largest
from harness.records.evidence import FARTHEST, NetworkEvidence
from harness.system.out_of_memory import is_out_of_memory
from harness.system.seeds import seed_of

Logits = NDArray[np.float64]
Indices = NDArray[np.int64]

logger = logging.getLogger(__name__)


IMAGES = 16
"""Images that are looked at, where a batch holds so many."""
SAME_SIZE = 1e-4
"""Largest relative difference between batches of one size with other images in them: the kernels are the same, so an image
that keeps its place keeps its logits to the last bit."""
OTHER_SIZE = 1e-2
"""The same between several sizes and places: there kernels differ, and with them the rounding of deep networks."""
OTHER_SIZE_COARSE = 0.1
"""The same where the network computes in fewer than 32 bits somewhere; `harness.models.inference` allows as much."""
NOISE = 10.0
"""How many times the difference between two passes of the same batch a difference must be, so that it is no random one."""


def batch_dependence(
    model: nn.Module,
    split: ImageSplit,
    clean_logits: NDArray[np.float32],
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> NetworkEvidence:
    """Passes images alone, in other places and among other images, and compares their logits.

    Args:
        model: The network in eval mode, on the device.
        split: The examples.
        clean_logits: Logits (N, K) on them, from batches of up to `batch_size` in their order.
        batch_size: Images of a full batch; no larger ones are tried.
        device: Where to run.
        seed: Seeds the order of a batch.

    Returns:
        The images tried, those whose class changes, and the largest difference; nothing where images are passed one by one,
        or the network fails on these.
    """
    size = min(batch_size, len(split))
    count = min(IMAGES, size) // 2 * 2
    if not count:
        return NetworkEvidence()
    labels = np.asarray(split.labels)
    chosen = spread(np.arange(len(labels)), labels, count)
    trial = _Trial(model, load(split, chosen, device).x)
    if trial.natural is None:
        return NetworkEvidence()
    order = np.random.default_rng(seed_of(seed, "batch")).permuted(np.tile(np.arange(count), (-(-size // count), 1)), axis=1)
    compared = [
        _Compared(trial.rows, clean_logits[chosen].astype(np.float64), OTHER_SIZE),
        *trial.in_other_company(),
        *trial.in_other_sizes(order.flatten()[:size]),
    ]
    worst, changed = 0.0, np.zeros(count, dtype=bool)
    for batch in compared:
        exceeding = trial.exceeding(batch)
        worst = max(worst, float(exceeding.max(initial=0.0)))
        if batch.natural:
            changed[batch.rows[(exceeding > 0) & trial.is_other_class(batch)]] = True
    return NetworkEvidence(batch_tried=count, batch_changed=int(changed.sum()), batch_dependence=min(worst, FARTHEST))


@dataclass(frozen=True, eq=False)
class _Compared:
    """Logits of some of the images in a batch of another kind."""

    rows: Indices
    """(n,) which of the images."""
    logits: Logits
    """(n, K)."""
    bound: float
    """Largest relative difference that is rounding."""
    natural: bool = True
    """Whether all images of the batch are as in the data set."""
    reference: Logits | None = None
    """(n, K) what to compare with, where it is not the natural batch."""


class _Trial:
    """A network and an even number of images; every second one is probed, and the one behind it can be exchanged."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x
        self.rows = np.arange(len(x))
        self.probed = self.rows[::2]

    def logits(self, x: Tensor) -> Logits | None:
        """Returns the logits of a batch; nothing where the network fails on its size."""
        try:
            with torch.no_grad():
                logits = cast(Tensor, self.model(x.clone()))
        except Exception as error:  # a network may fail on a size in any way
            if is_out_of_memory(error):
                raise
            logger.debug("a batch of %d images was not compared: %s", len(x), error)
            return None
        return logits.double().cpu().numpy() if logits.shape == (len(x), *logits.shape[1:2]) else None

    @cached_property
    def natural(self) -> Logits | None:
        """The logits of all images in one batch."""
        return self.logits(self.x)

    @cached_property
    def noise(self) -> float:
        """The relative difference between two passes of that batch."""
        return float(self._relative(self.logits(self.x), self.natural).max(initial=0.0))

    @cached_property
    def is_coarse(self) -> bool:
        """Whether the network computes in fewer than 32 bits somewhere, or does not show."""
        try:
            with torch.no_grad(), _Formats() as formats:
                self.model(self.x[:1].clone())
        except Exception:  # compiled networks may refuse to be looked into
            return True
        return formats.coarse

    def in_other_company(self) -> Iterator[_Compared]:
        """Yields the probed in their places, with other images between them."""
        probed, others = self.x[::2], self.x[1::2]
        extremes = torch.zeros_like(others)
        extremes[::2] = 1
        for company in (others.flip(0), others[:1].expand_as(others), probed.roll(1, dims=0)):
            yield from self._probed(probed, company, natural=True)
        for company in (1 - others, extremes):
            yield from self._probed(probed, company, natural=False)
        darker = self.logits(_alternating(probed / 2, others / 2))
        if darker is not None:
            yield from self._probed(probed / 2, extremes, natural=False, reference=darker[::2])

    def in_other_sizes(self, order: Indices) -> Iterator[_Compared]:
        """Yields the images alone, by the half, and in a full batch in the order given."""
        for row in self.probed:
            yield from self._batch(self.rows[row : row + 1])
        yield from self._batch(self.rows[: len(self.probed)][::-1].copy())
        yield from self._batch(order)

    def _probed(self, probed: Tensor, company: Tensor, *, natural: bool, reference: Logits | None = None) -> Iterator[_Compared]:
        if (logits := self.logits(_alternating(probed, company))) is not None:
            yield _Compared(self.probed, logits[::2], SAME_SIZE, natural, reference)

    def _batch(self, rows: Indices) -> Iterator[_Compared]:
        if (logits := self.logits(self.x[torch.from_numpy(rows)])) is not None:
            yield _Compared(rows, logits, OTHER_SIZE)

    def exceeding(self, batch: _Compared) -> Logits:
        """Returns (n,) the relative difference of each image where it is more than rounding and noise explain, else 0."""
        difference = self._relative(batch.logits, self._reference(batch))
        exceeds = difference > max(batch.bound, NOISE * self.noise)
        if batch.bound == OTHER_SIZE and exceeds.any() and self.is_coarse:
            exceeds &= difference > OTHER_SIZE_COARSE
        return np.where(exceeds, difference, 0.0)

    def is_other_class(self, batch: _Compared) -> NDArray[np.bool_]:
        """Returns (n,) whether an image is classified in another way."""
        reference = self._reference(batch)
        return np.zeros(len(batch.rows), bool) if reference is None else batch.logits.argmax(axis=1) != reference.argmax(axis=1)

    def _reference(self, batch: _Compared) -> Logits | None:
        return batch.reference if self.natural is None or batch.reference is not None else self.natural[batch.rows]

    def _relative(self, found: Logits | None, reference: Logits | None) -> Logits:
        """Returns (n,) the largest difference of each image, relative to the largest logit; NaN in both is no difference."""
        if found is None or reference is None or self.natural is None:
            return np.zeros(0 if found is None else len(found))
        difference = np.where(np.isnan(found) & np.isnan(reference), 0.0, logit_differences(found, reference))
        return np.asarray(of_largest(difference.max(axis=1), self.natural))


def _alternating(probed: Tensor, company: Tensor) -> Tensor:
    """Returns one batch (2n, C, H, W) of probed and company (n, C, H, W) in turn."""
    return torch.stack([probed, company], dim=1).flatten(0, 1)


class _Formats(TorchDispatchMode):
    """Notes whether any operation gives floating-point numbers of fewer than 32 bits."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.coarse = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formats = {leaf.dtype for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        self.coarse |= any(kind.is_floating_point and kind.itemsize < 4 for kind in formats)
        return result
