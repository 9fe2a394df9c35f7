"""The last step of every loader: the content hash, and the duplicates across splits."""

import logging
from collections.abc import Mapping, Sequence

from harness.errors import DataError
from harness.images import SPLITS, ImageData, ImageSplit, Source, composed
from harness.spec import digest_of

logger = logging.getLogger(__name__)


def image_data(
    name: str,
    class_names: Sequence[str],
    splits: Mapping[str, ImageSplit],
    *,
    source: Source | None = None,
    skipped: Mapping[str, int] | None = None,
) -> ImageData:
    """Returns the data set made of these splits.

    Args:
        name: The data set's name.
        class_names: One name for each class index. The data set gets them in composed form; the content hash covers those given.
        splits: The splits "train", "validation" and "test"; ids must not depend on the folder of the data.
        source: The files from which images are decoded when they are read.
        skipped: Split -> number of files in it that are not images.

    Raises:
        DataError: if a label has no class name.
    """
    highest = max(int(splits[split].labels.max()) for split in SPLITS)
    if highest >= len(class_names):
        raise DataError(f"{name}: expected labels from 0 to {len(class_names) - 1}, got {highest}")
    duplicates = cross_split_duplicates(splits)
    if duplicates:
        logger.warning("%s: %d validation and test images also occur in an earlier split", name, duplicates)
    return ImageData(
        name=name,
        class_names=tuple(map(composed, class_names)),
        splits=dict(splits),
        content_hash=content_hash(class_names, splits),
        cross_split_duplicates=duplicates,
        source=source,
        skipped=dict(skipped or {}),
    )


def content_hash(class_names: Sequence[str], splits: Mapping[str, ImageSplit]) -> str:
    """Returns the sha256 over class names, and ids, labels and hashes of every split in the order of `SPLITS`."""
    rows = {name: [list(splits[name].ids), splits[name].labels.tolist(), list(splits[name].hashes)] for name in SPLITS}
    return digest_of({"class_names": list(class_names), "splits": rows})


def cross_split_duplicates(splits: Mapping[str, ImageSplit]) -> int:
    """Returns how many validation and test examples have a content that also occurs in an earlier split.

    A split that stands for several counts once.
    """
    seen: set[str] = set()
    duplicates = 0
    for split in {id(splits[name]): splits[name] for name in SPLITS}.values():
        hashes = split.hashes
        duplicates += sum(content in seen for content in hashes)
        seen.update(hashes)
    return duplicates
