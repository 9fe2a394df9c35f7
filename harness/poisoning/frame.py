"""Poisons a training split: a plug-in computes the poison; the frame checks, draws, measures and records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import SuiteError
from harness.images import ImageData, ImageSplit
from harness.poisoning.base import Crafted, DrawnExamples, Poison
from harness.poisoning.change import measure
from harness.poisoning.choice import draw, poison_count
from harness.poisoning.manifest import Manifest, PoisonedExample
from harness.poisoning.poisoned import PoisonedData, assemble, load_parts
from harness.poisoning.stamp import Stamp
from harness.system.seeds import global_seed, seed_of

if TYPE_CHECKING:
    from torch import nn


MAX_CRAFTED_BYTES = 2 * 1024**3
"""Largest size in bytes of crafted images, which are held in memory; stamped ones are not."""


def check(poison: Poison, class_names: Sequence[str], labels: NDArray[np.int64], *, resolution: int, rate: float) -> None:
    """Checks the classes and the rate of a poison; it reads no image, so it can be called before any training.

    Args:
        poison: The plug-in.
        class_names: The data set's classes.
        labels: Class indices of the training split (N,).
        resolution: Side length of the images in pixels.
        rate: Share of the training split that shall be poisoned.

    Raises:
        SuiteError: if a class is unknown or has no examples; if the rate is not in (0, 1], gives no example, more than can
            be poisoned, or more crafted images than `MAX_CRAFTED_BYTES`; or if the trigger does not fit.
    """
    poison.check_resolution(resolution)
    poison.check_classes(class_names, labels)
    eligible = int(poison.eligible(class_names, labels).sum())
    count = poison_count(rate, len(labels), eligible, where=f"{poison.where}.rates")
    size = count * 3 * resolution**2 * np.dtype(np.float32).itemsize
    if poison.CRAFTS and size > MAX_CRAFTED_BYTES:
        raise SuiteError(
            f"{poison.where}.rates: expected crafted images of {MAX_CRAFTED_BYTES >> 20} MiB at most, "
            f"got {count} of {resolution} x {resolution} pixels, {size >> 20} MiB"
        )
    poison.check_rate(class_names, labels, rate)


def check_data(poison: Poison, data: ImageData, rate: float) -> None:
    """Checks as `check` does, and that the test split has enough examples to measure the poison's success.

    Raises:
        SuiteError: see `check`, `Poison.check_test_split` and `Poison.targets`; also if no test image can get the trigger.
    """
    check(poison, data.class_names, data.splits["train"].labels, resolution=_resolution(data), rate=rate)
    poison.check_test_split(data)
    poison.targets(data, seed=0)
    triggered = poison.triggered(data)
    if triggered is not None and not len(triggered):
        raise SuiteError(f"{poison.where}: expected test examples that can carry the trigger, got none of the source classes")


def poison_data(poison: Poison, data: ImageData, rate: float, *, seed: int, model: nn.Module | None = None) -> PoisonedData:
    """Returns a data set with a share of the training split poisoned.

    Args:
        poison: The plug-in.
        data: The clean data set.
        rate: Share of the whole training split; `round(rate * N)` examples are drawn without replacement.
        seed: Decides which examples are drawn, and every random choice of the crafting.
        model: A network trained on the clean data, logits (N, K); left unchanged.

    Raises:
        SuiteError: see `check_data`; also if `Poison.supports` gives a reason.
        HarnessError: if the poison changed an image more than, or where, it may not.
    """
    check_data(poison, data, rate)
    if reason := poison.supports(data, rate, model):
        raise SuiteError(f"{poison.where}: {reason}")
    labels = data.splits["train"].labels
    indices = draw(poison.eligible(data.class_names, labels), round(rate * len(labels)), seed)
    drawn = DrawnExamples(data, indices, poison.targets(data, seed), seed_of(seed, "poison", poison.name), model)
    with global_seed(drawn.seed):
        crafted = poison.craft(drawn)
    stamp = poison.training_stamp(_resolution(data))
    examples = _measured(poison, data.splits["train"], indices, crafted=crafted, stamp=stamp)
    manifest = _manifest(poison, drawn, examples, rate=rate, seed=seed)
    return assemble(data, manifest, images=crafted.images, stamp=stamp)


def load_poisoned(poison: Poison, folder: Path, clean: ImageData) -> PoisonedData:
    """Returns the poisoned data set that `PoisonedData.save` wrote, combined with the clean data.

    Raises:
        StoreError: if it is missing or damaged, or was made from other data.
    """
    manifest, images = load_parts(folder, clean)
    return assemble(clean, manifest, images=images, stamp=poison.training_stamp(_resolution(clean)))


def _measured(
    poison: Poison, split: ImageSplit, indices: NDArray[np.int64], *, crafted: Crafted, stamp: Stamp | None
) -> tuple[PoisonedExample, ...]:
    """Returns the records of the poisoned examples, each measured."""
    mask = None if stamp is None else stamp.mask
    examples = []
    for position, (index, label) in enumerate(zip(indices.tolist(), crafted.labels.tolist(), strict=True)):
        image, label_before = split[index]
        poisoned = image if crafted.images is None else crafted.images[position]
        change = measure(
            poisoned if stamp is None else stamp(poisoned),
            image,
            mask=mask,
            eps=poison.largest_crafted_change,
            where=f"{poison.where}: {split.ids[index]}",
        )
        examples.append(
            PoisonedExample(index=index, id=split.ids[index], label_before=label_before, label_after=label, **change._asdict())
        )
    return tuple(examples)


def _manifest(poison: Poison, drawn: DrawnExamples, examples: tuple[PoisonedExample, ...], *, rate: float, seed: int) -> Manifest:
    data, names = drawn.data, drawn.data.class_names
    target, trigger = poison.target_index(names), poison.trigger_stamp(_resolution(data))
    total = len(data.splits["train"])
    return Manifest(
        poison=poison.identity(),
        seed=seed,
        clean_hash=data.content_hash,
        training_examples=total,
        requested_rate=rate,
        realised_rate=len(examples) / total,
        source_classes=tuple(names[label] for label in np.unique(drawn.labels)),
        target_class=None if target is None else names[target],
        trigger_sha256=None if trigger is None else trigger.sha256,
        targets=drawn.targets,
        examples=examples,
    )


def _resolution(data: ImageData) -> int:
    return int(data.splits["train"][0][0].shape[-1])
