"""The names of split folders, and how they are distinguished from class folders."""

import re
from collections.abc import Iterable, Mapping, Sequence

EITHER = "evaluation"
"""Folders named "evaluation": the test split, or the validation split if there is a test folder."""
WORDS = {
    "train": "train|training|trn",
    "validation": "validation|validate|valid|val|development|devel|dev",
    "test": "testing|test|tst",
    EITHER: "evaluation|eval",
}
"""Split -> the words for it in a folder's name, in upper or lower case."""
FILLERS = "data|set|split|images?|imgs?|photos?|pictures?|files?|folder|seg"
"""Words that may be added to it, with or without separators: training_set, TestImages, seg_train, val2017."""
_PATTERNS = {split: re.compile(rf"(?:{FILLERS})*(?:{words})(?:{FILLERS})*") for split, words in WORDS.items()}


def split_named(name: str) -> str | None:
    """Returns the split that a folder's name means, or None."""
    letters = "".join(character for character in name.lower() if character.isalpha())
    return next((split for split, pattern in _PATTERNS.items() if pattern.fullmatch(letters)), None)


def splits_named(names: Iterable[str]) -> dict[str, str | None]:
    """Returns, for the names of all folders in one folder, the split that each means, or None."""
    found = {name: split_named(name) for name in names}
    kept = "validation" if "test" in found.values() else "test"
    return {name: kept if split == EITHER else split for name, split in found.items()}


def common_folders(files: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Returns the folders in which all supposed classes have their images: the real classes, if the supposed ones are splits.

    Args:
        files: Class -> the paths of its images, relative to the folder of that class.

    Returns:
        The folders, sorted. None if there is only one, as some data sets have one folder of the same name in every class, or
        if a class has images outside of folders.
    """
    held = [_holders(of_class) for of_class in files.values()]
    common = set.intersection(*held) if held else set()
    return () if any("" in holders for holders in held) or len(common) < 2 else tuple(sorted(common))


def _holders(files: Iterable[str]) -> set[str]:
    return {file.rpartition("/")[0] for file in files}
