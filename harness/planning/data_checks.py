"""Data checks: whether a suite fits its data, before anything is trained: folders, classes, and every poison at every rate."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from harness.datasets.base import FROM_TRAINING, expand_path
from harness.datasets.decoding import Resize
from harness.datasets.image_folder import FileSplit, read_class_folders
from harness.datasets.layout import read_classes
from harness.datasets.splits import Drawn
from harness.errors import DataError, ModelError, SuiteError, naming, surviving_exits
from harness.images import ImageData, ImageSplit
from harness.poisoning.families import TriggerPoison
from harness.poisoning.frame import check_data
from harness.steps.base import DataIdentity
from harness.steps.given import Given

if TYPE_CHECKING:
    from torch import Tensor

    from harness.suites.base import BaseSuite

logger = logging.getLogger(__name__)

COMPARED = 16
"""Images on which an ONNX file is compared with the network that is differentiated in its place."""
UNKNOWN_DATA = DataIdentity({}, "")
"""Of data that are not loaded."""


def check_without_images(suite: BaseSuite) -> None:
    """Checks the folders of the data, the classes that the suite names, and files, without decoding an image.

    Raises:
        SuiteError: if an unknown class is named, or a trigger's file is missing; begins with the field's path.
        DataError: if a folder is missing, or does not hold class folders with images.
        ModelError: if a file of weights is missing or damaged, or a finished model does not fit the classes.
    """
    suite.check_weights()
    class_names = suite.dataset.look()
    if class_names is None:
        return
    check_finished(suite, class_names)
    for label, attack in suite.attacks.items():
        attack.check_target(class_names, where=f"attacks.{label}")
    for label, folder in suite.folders.items():
        with naming(f"folders.{label}.root: ", DataError):
            read_classes(expand_path(folder.root), class_names)
    an_example_each = np.arange(len(class_names))
    for label, entry in suite.poisons.items():
        poison = entry.plugin
        with _named_by_label(poison.where, label):
            poison.check_classes(class_names, an_example_each)
            if isinstance(poison, TriggerPoison):
                poison.trigger.check(suite.dataset.resolution, where=f"{poison.where}.trigger")


def check_finished(suite: BaseSuite, class_names: Sequence[str]) -> None:
    """Builds every finished model, and gives it two images.

    Raises:
        ModelError: if its weights do not fit its architecture, or its logits the classes; begins with its label.
    """
    for label in suite.finished:
        _ = given_step(suite, label, UNKNOWN_DATA, class_names)


def warn_of_training_images(suite: BaseSuite, data: ImageData) -> None:
    """Logs a warning where finished models are judged on images that are drawn from those of the training split."""
    split = data.splits[suite.evaluation.split]
    if suite.finished and (isinstance(split, Drawn) or getattr(split, "from_training", False)):
        hint = "; dataset.held_out: true judges what is held out" if hasattr(suite.dataset, "held_out") else ""
        logger.warning("%s: %s%s", ", ".join(suite.finished), FROM_TRAINING, hint)


def given_step(
    suite: BaseSuite, label: str, data: DataIdentity, class_names: Sequence[str], images: ImageSplit | None = None
) -> Given:
    """Returns the step of a finished model, which is built to see that it fits.

    Args:
        suite: The suite.
        label: The model's.
        data: The data set.
        class_names: Its classes.
        images: What is judged, where it is loaded; an ONNX file is compared on a few of them with what is differentiated.

    Raises:
        ModelError: see `check_finished`.
    """
    adapter = suite.adapter_of(label)
    with naming(f"models.{label}: ", ModelError), surviving_exits(f"models.{label}"):
        return Given.planned(
            label,
            suite.architecture_of(label),
            adapter,
            data,
            resolution=suite.dataset.resolution,
            class_names=class_names,
            twin=suite.twin_of(label),
            images=None if images is None or suite.models[label].onnx is None else _few_of(images),
        )


def _few_of(images: ImageSplit) -> Tensor:
    """Returns a few images (n, 3, R, R), evenly over the classes."""
    from harness.evaluation.batches import load, spread

    labels = np.asarray(images.labels, dtype=np.int64)
    return load(images, spread(np.arange(len(labels)), labels, COMPARED), "cpu").x


@contextmanager
def _named_by_label(where: str, label: str) -> Iterator[None]:
    """Names a poison in errors by its label."""
    try:
        yield
    except SuiteError as error:
        raise SuiteError(str(error).replace(where, f"poisons.{label}", 1)) from error


def read_folders(suite: BaseSuite, data: ImageData) -> dict[str, FileSplit]:
    """Returns the checked images of every folder by its label; they are decoded and resized as those of the data set."""
    resize: Resize = getattr(suite.dataset, "resize", "squash")
    found: dict[str, FileSplit] = {}
    for label, entry in suite.folders.items():
        with naming(f"folders.{label}.root: ", DataError):
            root, resolution = expand_path(entry.root), suite.dataset.resolution
            found[label] = read_class_folders(root, data.class_names, resolution=resolution, resize=resize)
    return found


def unsupported_poisons(suite: BaseSuite, data: ImageData) -> dict[tuple[str, float], str]:
    """Returns, for each poison and rate that cannot be made, the reason; checks all of them before anything is trained.

    Where crafting uses a network, the check is given one of the same architecture that is not trained.
    """
    reasons: dict[tuple[str, float], str] = {}
    for label, entry in suite.poisons.items():
        model = None
        if entry.plugin.NEEDS_MODEL:
            architecture = suite.architecture_of(suite.trained[0]).without_weights()
            model = architecture.build(data.class_names, resolution=suite.dataset.resolution, seed=0)
        for rate in entry.rates:
            with _named_by_label(entry.plugin.where, label):
                check_data(entry.plugin, data, rate)
            if reason := entry.plugin.supports(data, rate, model):
                reasons[label, rate] = reason
    return reasons
