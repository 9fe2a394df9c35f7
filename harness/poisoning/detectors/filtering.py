"""A training split without the suspicious examples, for training again."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.images import ImageData
from harness.poisoning.splits import Selection
from harness.spec import digest_of


def filtered(data: ImageData, suspicious: NDArray[np.bool_]) -> ImageData:
    """Returns the data set without the suspicious training examples; no image is copied.

    Args:
        data: A data set, poisoned or not.
        suspicious: Flags over its training split (N,).

    Raises:
        DataError: if a class would be left without training examples.
    """
    split = data.splits["train"]
    kept = np.flatnonzero(~suspicious)
    emptied = np.setdiff1d(split.labels, split.labels[kept])
    if len(emptied):
        names = ", ".join(data.class_names[label] for label in emptied)
        raise DataError(f"filter: expected training examples of every class to be left, got none of {names}")
    splits = {**data.splits, "train": Selection(split, kept)}
    return replace(data, splits=splits, content_hash=digest_of([data.content_hash, kept.tolist()]))
