"""What folders of splits are called, and what tells them from folders of classes."""

import re
from collections.abc import Iterable, Mapping, Sequence

EITHER = "evaluation"
"""What is kept from training and does not say for what: the test split, or the validation split beside one."""
WORDS = {
    "train": "train|training|trn",
    "validation": "validation|validate|valid|val|development|devel|dev",
    "test": "testing|test|tst",
    EITHER: "evaluation|eval",
}
"""Split -> the words that stand for it in a folder's name, in any case."""
FILLERS = "data|set|split|images?|imgs?|photos?|pictures?|files?|folder|seg"
"""Words that may stand beside it, with or without something between: training_set, TestImages, seg_train, val2017."""
_PATTERNS = {split: re.compile(rf"(?:{FILLERS})*(?:{words})(?:{FILLERS})*") for split, words in WORDS.items()}


def split_named(name: str) -> str | None:
    """Returns the split that a folder's name stands for, or None if it stands for none."""
    letters = "".join(character for character in name.lower() if character.isalpha())
    return next((split for split, pattern in _PATTERNS.items() if pattern.fullmatch(letters)), None)


def splits_named(names: Iterable[str]) -> dict[str, str | None]:
    """Returns the split that each of the folders side by side stands for, or None."""
    found = {name: split_named(name) for name in names}
    kept = "validation" if "test" in found.values() else "test"
    return {name: kept if split == EITHER else split for name, split in found.items()}


def common_folders(files: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Returns the folders that all of some supposed classes hold their images in: those of classes, if these are splits.

    Args:
        files: Class -> the paths of its images, relative to the folder of that class.

    Returns:
        The folders, sorted; none where there are fewer than two, as in folders of a single kind below every class, or where a
        class has images of its own.
    """
    held = [_holders(of_class) for of_class in files.values()]
    common = set.intersection(*held) if held else set()
    return () if any("" in holders for holders in held) or len(common) < 2 else tuple(sorted(common))


def _holders(files: Iterable[str]) -> set[str]:
    return {file.rpartition("/")[0] for file in files}
