"""Applies corruptions to images and splits: each example has its own random state, and each result is checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.corruptions.base import Corruption
from harness.errors import DataError
from harness.images import ImageSplit
from harness.system.lazy import torch
from harness.system.seeds import generator_of

if TYPE_CHECKING:
    from torch import Tensor


def corrupt(corruption: Corruption, x: Tensor, *, severity: int, seed: int, key: str) -> Tensor:
    """Returns one corrupted image.

    Args:
        corruption: The corruption.
        x: One image (3, H, W), float32 in [0,1].
        severity: One that the corruption supports.
        seed: The suite's seed.
        key: Identifies the example, for instance by its content hash: an example has the same random draws in every
            subset and at every severity.

    Returns:
        An image of the same shape, float32 in [0,1].

    Raises:
        DataError: if the severity is not supported, or the corruption returns another shape or dtype, or values that
            are not finite.
    """
    if (reason := corruption.supports(severity)) is not None:
        raise DataError(f"corruptions: {reason}")
    result = corruption.apply(x, severity=severity, generator=generator_of(seed, "corruption", corruption.name, key))
    if result.shape != x.shape or result.dtype != x.dtype or not bool(result.isfinite().all()):
        raise DataError(
            f"corruptions.{corruption.name}, severity {severity}, example {key:.12}: expected finite {x.dtype} values of "
            f"shape {tuple(x.shape)}, got {result.dtype} of shape {tuple(result.shape)}"
        )
    return result.clamp(0, 1)


def corrupt_batch(corruption: Corruption, x: Tensor, keys: Sequence[str], *, severity: int, seed: int) -> Tensor:
    """Returns a batch of images (N, 3, H, W), on any device, each corrupted by `corrupt` with its key."""
    pairs = zip(x.detach().cpu(), keys, strict=True)
    images = [corrupt(corruption, image, severity=severity, seed=seed, key=key) for image, key in pairs]
    return torch.stack(images).to(x.device)


class CorruptedSplit:
    """A split whose images are corrupted when they are read; labels, ids and hashes are those of the clean images.

    Args:
        corruption: The corruption.
        split: The clean images.
        severity: One that the corruption supports.
        seed: The suite's seed.
    """

    def __init__(self, corruption: Corruption, split: ImageSplit, *, severity: int, seed: int) -> None:
        """See the class."""
        self.labels, self.ids, self.hashes = split.labels, split.ids, split.hashes
        self._corruption, self._split, self._severity, self._seed = corruption, split, severity, seed

    def __len__(self) -> int:
        """Returns the number of examples N."""
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns one corrupted image, float32 (3, H, W) in [0,1], and its class index."""
        x, label = self._split[index]
        return corrupt(self._corruption, x, severity=self._severity, seed=self._seed, key=self.hashes[index]), label
