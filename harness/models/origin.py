"""Whether a file of weights was made from the same architecture and classes as the network that loads it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.models.fitting import few
from harness.models.h5 import SavedClassifier, read_h5

logger = logging.getLogger(__name__)

NAMING = ".h5"
"""Ending of the files that name their architecture and classes; the others hold tensors only."""


def has_other_classes(weights: Path, *, arch: str, arguments: Mapping[str, Any], class_names: Sequence[str]) -> bool:
    """Returns whether a file of weights names other classes, so that its head cannot be used; False if it names none.

    Args:
        weights: The file.
        arch: The architecture's name; the tag of its weights may differ.
        arguments: The architecture's arguments. If the file has others, a warning names them, as some change no weight.
        class_names: The classes, in the order of the logits. If the file has others, a warning names them.

    Raises:
        ModelError: if the file is of another architecture, or has the same classes in another order.
    """
    if weights.suffix != NAMING:
        return False
    saved = read_h5(weights.expanduser())
    if _without_tag(saved.arch) != _without_tag(arch):
        raise ModelError(f"expected weights of {arch}, got some of {saved.arch}")
    if saved.arguments != arguments:
        logger.warning("%s: its network was built with %s, this one with %s", weights, dict(saved.arguments), dict(arguments))
    return _classes_differ(saved, weights, class_names)


def _without_tag(arch: str) -> str:
    """Returns timm's name of an architecture; a callable's name, with a colon, has no tag."""
    return arch if ":" in arch else arch.partition(".")[0]


def _classes_differ(saved: SavedClassifier, weights: Path, class_names: Sequence[str]) -> bool:
    if saved.class_names == tuple(class_names):
        return False
    only_here = [name for name in class_names if name not in saved.class_names]
    only_there = [name for name in saved.class_names if name not in class_names]
    if not only_here and not only_there:
        place = next(place for place, names in enumerate(zip(class_names, saved.class_names, strict=True)) if len({*names}) > 1)
        expected, got = class_names[place], saved.class_names[place]
        raise ModelError(f"its classes are in another order: expected class {place} to be {expected}, got {got}")
    logger.warning("%s: it names other classes: not in it (%s), not here (%s)", weights, few(only_here), few(only_there))
    return True
