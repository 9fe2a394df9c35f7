"""Which images a folder holds: its splits and classes, checked before a single image is decoded."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.datasets.base import readable
from harness.datasets.decoding import SUFFIXES
from harness.errors import DataError

SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
"""Split -> the folder names (in any case) that stand for it."""


class Layout(NamedTuple):
    """The images of a folder, by split and class."""

    class_names: tuple[str, ...]
    """Names of the class folders, sorted."""
    files: Mapping[str, tuple[tuple[str, ...], ...]]
    """Split -> for each class, the paths of its images relative to the root, with "/", sorted."""


def read_layout(root: Path) -> Layout:
    """Lists `root/<split>/<Class>/**`, or `root/<Class>/**`, which counts as one split "train".

    Files that are no images by their ending, and names that begin with a dot, are ignored.

    Raises:
        DataError: if there is no such folder, no "train" beside other splits, fewer than two classes, a class
            without images, if the classes differ between splits, or if something may not be read.
    """
    with readable(root):
        return _listed_layout(root)


def _listed_layout(root: Path) -> Layout:
    _expect_folder(root)
    folders = _split_folders(root)
    class_names = {split: tuple(sorted(child.name for child in _folders_in(folder))) for split, folder in folders.items()}
    _check_classes(root, class_names)
    files = {
        split: tuple(tuple(_images_in(folder / name, root)) for name in class_names[split]) for split, folder in folders.items()
    }
    empty = [
        f"{folders[split].name}/{class_names[split][k]}" for split in files for k, found in enumerate(files[split]) if not found
    ]
    _expect_images(root, empty)
    return Layout(class_names["train"], files)


def read_classes(root: Path, class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Lists `root/<Class>/**` where the classes are known; some of them may have no folder.

    Args:
        root: The folder.
        class_names: What class folders may be called.

    Returns:
        For each class, the paths of its images relative to the root, with "/", sorted.

    Raises:
        DataError: if there is no such folder, none in it, one that is named as no class, one without images, or one
            that may not be read.
    """
    with readable(root):
        return _listed_classes(root, class_names)


def _listed_classes(root: Path, class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    _expect_folder(root)
    found = {child.name: child for child in _folders_in(root)}
    unknown = tuple(name for name in found if name not in class_names)
    if unknown or not found:
        known = _listed(tuple(class_names))
        raise DataError(f"{root}: expected folders named as the classes {known}, found {_listed(unknown) or 'none'}")
    files = {name: tuple(_images_in(folder, root)) for name, folder in found.items()}
    _expect_images(root, [name for name, images in files.items() if not images])
    return tuple(files.get(name, ()) for name in class_names)


def _expect_folder(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images, found {'a file' if root.exists() else 'nothing'}")


def _expect_images(root: Path, empty: list[str]) -> None:
    if empty:
        raise DataError(f"{root}: expected at least one image in every class folder, found none in {_listed(empty)}")


def _split_folders(root: Path) -> dict[str, Path]:
    """Returns the folder of each split that exists, or the root itself as the one split "train"."""
    found: dict[str, Path] = {}
    for child in _folders_in(root):
        split = next((split for split, names in SPLIT_FOLDERS.items() if child.name.lower() in names), None)
        if split in found:
            raise DataError(f"{root}: expected one folder for the split {split!r}, found {found[split].name} and {child.name}")
        if split:
            found[split] = child
    if found and "train" not in found:
        raise DataError(f"{root}: expected a folder 'train' beside {_listed(sorted(folder.name for folder in found.values()))}")
    return {split: found[split] for split in SPLIT_FOLDERS if split in found} or {"train": root}


def _check_classes(root: Path, class_names: Mapping[str, tuple[str, ...]]) -> None:
    if len(class_names["train"]) < 2:
        raise DataError(f"{root}: expected two or more class folders, found {_listed(class_names['train']) or 'none'}")
    everywhere = sorted(set().union(*class_names.values()))
    missing = [f"{name!r} in {split}" for split, names in class_names.items() for name in everywhere if name not in names]
    if missing:
        raise DataError(f"{root}: expected the same classes in every split, but there is no {_listed(missing)}")


def _folders_in(folder: Path) -> Iterator[Path]:
    return (child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith((".", "__")))


def _images_in(folder: Path, root: Path) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(root).as_posix()
        found += [
            f"{inside}/{name}"
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122  a Path a file is slow
        ]
    return sorted(found)


def _fail(error: OSError) -> None:
    """Stops a walk, which would silently leave out the folders that may not be read."""
    raise error


def _listed(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """Returns the names as text, the first few only where there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
