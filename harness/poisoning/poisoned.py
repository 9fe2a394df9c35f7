"""A poisoned data set: the clean one combined with its manifest and crafted images; saved, and read again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from safetensors import SafetensorError

from harness.errors import StoreError
from harness.images import ImageData
from harness.poisoning.manifest import Manifest, PoisonedExample
from harness.poisoning.splits import Overlay
from harness.poisoning.stamp import Stamp
from harness.spec import digest_of

if TYPE_CHECKING:
    from torch import Tensor


MANIFEST, IMAGES = "manifest.json", "images.safetensors"


@dataclass(frozen=True)
class PoisonedData:
    """A data set whose training split is poisoned; validation and test split are the clean ones."""

    data: ImageData
    manifest: Manifest
    images: Tensor | None
    """Crafted images (n, 3, R, R) before any stamp, in the manifest's order, or None if the poison crafts none."""

    def save(self, folder: Path) -> None:
        """Writes manifest.json, and images.safetensors if images were crafted."""
        from safetensors.torch import save_file

        self.manifest.save(folder / MANIFEST)
        if self.images is not None:
            save_file({"images": self.images.contiguous()}, folder / IMAGES)


class ExamplePair(NamedTuple):
    """A poisoned training example and its clean image, for a figure."""

    example: PoisonedExample
    clean: Tensor
    """Clean image (3, R, R)."""
    poisoned: Tensor
    """Poisoned image (3, R, R)."""


def example_pairs(clean: ImageData, poisoned: PoisonedData, count: int) -> tuple[ExamplePair, ...]:
    """Returns up to `count` poisoned examples, evenly spaced in the manifest."""
    before, after = clean.splits["train"], poisoned.data.splits["train"]
    chosen = poisoned.manifest.spread(count)
    return tuple(ExamplePair(example, before[example.index][0], after[example.index][0]) for example in chosen)


def assemble(clean: ImageData, manifest: Manifest, *, images: Tensor | None, stamp: Stamp | None) -> PoisonedData:
    """Returns a poisoned data set; its content hash covers the clean data, the labels and the poisoned pixels.

    Args:
        clean: The clean data set.
        manifest: What was poisoned.
        images: Crafted images, see `PoisonedData`.
        stamp: The trigger of the poisoned training images, or None.
    """
    train = Overlay(
        clean.splits["train"],
        manifest.indices,
        labels=np.array([example.label_after for example in manifest.examples], dtype=np.int64),
        hashes=[example.sha256 for example in manifest.examples],
        images=images,
        stamp=stamp,
    )
    changes = [[example.index, example.label_after, example.sha256] for example in manifest.examples]
    content_hash = digest_of([clean.content_hash, changes])
    return PoisonedData(replace(clean, splits={**clean.splits, "train": train}, content_hash=content_hash), manifest, images)


def load_parts(folder: Path, clean: ImageData) -> tuple[Manifest, Tensor | None]:
    """Returns the manifest and the crafted images that `PoisonedData.save` wrote.

    Raises:
        StoreError: if it is missing or damaged, or was made from other data than `clean`.
    """
    from safetensors.torch import load_file

    manifest = Manifest.load(folder / MANIFEST)
    if manifest.clean_hash != clean.content_hash:
        raise StoreError(f"{folder}: expected a poison of data {clean.content_hash[:12]}, got one of {manifest.clean_hash[:12]}")
    path = folder / IMAGES
    try:
        return manifest, load_file(path)["images"] if path.exists() else None
    except (OSError, SafetensorError, KeyError) as error:
        raise StoreError(f"{path}: expected crafted images, got a damaged file: {error}") from error
