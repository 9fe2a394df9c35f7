"""The images of a folder by split and class, listed and checked without decoding an image."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from harness.datasets.base import readable
from harness.datasets.decoding import image_suffixes
from harness.datasets.split_names import common_folders, split_named, splits_named
from harness.errors import DataError
from harness.images import SPLITS, composed

WHOLE = "train"
"""The split of all images in a folder without splits."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """The images of a folder, by split and class."""

    class_names: tuple[str, ...]
    """Names of the class folders, sorted."""
    files: Mapping[str, tuple[tuple[str, ...], ...]]
    """Split -> for each class, the paths of its images relative to the root, with "/", sorted."""
    has_splits: bool
    """Whether the folder is divided into splits; else all images are one split "train"."""
    skipped: Mapping[str, Mapping[str, int]] = field(compare=False)
    """Split -> ending -> number of files that are not images; only splits that have such files."""


class _Listed(NamedTuple):
    """The files of a folder."""

    images: list[str]
    """Paths relative to the root, with "/", sorted."""
    skipped: Counter[str]
    """Ending, or another reason -> number of files that are left out."""


def read_layout(root: Path) -> Layout:
    """Returns the layout of `root/<split>/<Class>/**`, or of `root/<Class>/**` as one split "train".

    `split_names` has the names of splits. Files whose ending is not of an image are counted; names that begin with a dot are
    ignored. Both Unicode forms of a name are the same name.

    Raises:
        DataError: if there is no such folder, no "train" beside other splits, another folder of images beside the splits,
            fewer than two classes, a class without images; if all classes have the same subfolders, the classes differ
            between splits, or something cannot be read.
    """
    with readable(root):
        folders = _split_folders(root)
        if WHOLE not in folders:
            found = _listed(sorted(folder.name for folder in folders.values()))
            raise DataError(f"{root}: expected a folder 'train' beside {found}")
        return _layout(root, folders)


def read_split_layout(root: Path) -> Layout:
    """Returns the layout for scoring a finished model, as `read_layout` does; any of the splits may be missing.

    Raises:
        DataError: see `read_layout`.
    """
    with readable(root):
        return _layout(root, _split_folders(root))


def read_classes(root: Path, class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Returns the images in `root/<Class>/**` of known classes; some of them may have no folder.

    Args:
        root: The folder.
        class_names: The names of the classes.

    Returns:
        For each class, the paths of its images relative to the root, with "/", sorted.

    Raises:
        DataError: if there is no such folder, no folder in it, or one in it that has the name of no class, has no image, or
            cannot be read.
    """
    with readable(root):
        return _known_classes(root, class_names)


def _known_classes(root: Path, class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    _expect_folder(root)
    found, known = _class_folders(root), {composed(name) for name in class_names}
    unknown = tuple(folders[0].name for name, folders in found.items() if name not in known)
    if unknown or not found:
        expected = _listed(tuple(class_names))
        raise DataError(f"{root}: expected folders named as the classes {expected}, found {_listed(unknown) or 'none'}")
    files = {name: _files_in(folders, root) for name, folders in found.items()}
    _log_skipped(root, {"": _skipped(root, files.values())})
    _expect_images(root, [name for name, listed in files.items() if not listed.images])
    empty = _Listed([], Counter())
    return tuple(tuple(files.get(composed(name), empty).images) for name in class_names)


def _layout(root: Path, folders: Mapping[str, Path]) -> Layout:
    classes = {split: _class_folders(folder) for split, folder in folders.items()}
    _check_classes(root, classes)
    listed = {split: {name: _files_in(paths, root) for name, paths in found.items()} for split, found in classes.items()}
    skipped = {split: _skipped(folders[split], of_split.values()) for split, of_split in listed.items()}
    _log_skipped(root, skipped)
    for split, of_split in listed.items():
        _check_kinds(root, folders[split], of_split)
    empty = [f"{folders[split].name}/{name}" for split in listed for name, files in listed[split].items() if not files.images]
    _expect_images(root, empty)
    return Layout(
        class_names=tuple(paths[0].name for paths in next(iter(classes.values())).values()),
        files={split: tuple(tuple(files.images) for files in of_split.values()) for split, of_split in listed.items()},
        skipped={split: dict(found) for split, found in skipped.items() if found},
        has_splits=root not in folders.values(),
    )


def _expect_folder(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images, found {'a file' if root.exists() else 'nothing'}")


def _expect_images(root: Path, empty: list[str]) -> None:
    if empty:
        raise DataError(f"{root}: expected at least one image in every class folder, found none in {_listed(empty)}")


def _split_folders(root: Path) -> dict[str, Path]:
    """Returns the folder of each existing split, or the root itself as the one split "train"."""
    _expect_folder(root)
    found: dict[str, Path] = {}
    others = []
    inside = list(_folders_in(root))
    splits = splits_named(child.name for child in inside)
    for child in inside:
        split = splits[child.name]
        if split is None:
            others.append(child)
        elif split in found:
            raise DataError(f"{root}: expected one folder for the split {split!r}, found {found[split].name} and {child.name}")
        else:
            found[split] = _inner(child)
    if not found:
        return {WHOLE: root}
    if strange := [child.name for child in others if _files_in([child], root).images]:
        known = _listed([folder.name for folder in found.values()])
        raise DataError(
            f"{root}: expected no other folder of images beside the splits {known}, found {_listed(strange)}; name what is a "
            "split train, validation or test, rename what is a class and named as a split, and move the rest elsewhere"
        )
    return {split: found[split] for split in SPLITS if split in found}


def _inner(folder: Path) -> Path:
    """Returns the only folder in a folder if it names the same split, as in some archives (seg_train/seg_train); else itself."""
    inside = list(_folders_in(folder))
    same = len(inside) == 1 and split_named(inside[0].name) == split_named(folder.name)
    return _inner(inside[0]) if same else folder


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """Returns the folders of each class by its composed name, sorted; two Unicode forms of a name are one class."""
    found: dict[str, list[Path]] = {}
    for child in _folders_in(folder):
        found.setdefault(composed(child.name), []).append(child)
    return dict(sorted(found.items()))


def _check_classes(root: Path, classes: Mapping[str, Mapping[str, object]]) -> None:
    first = next(iter(classes.values()))
    if len(first) < 2:
        raise DataError(f"{root}: expected two or more class folders, found {_listed(tuple(first)) or 'none'}")
    everywhere = sorted(set().union(*classes.values()))
    missing = [f"{name!r} in {split}" for split, names in classes.items() for name in everywhere if name not in names]
    if missing:
        raise DataError(f"{root}: expected the same classes in every split, but there is no {_listed(missing)}")


def _check_kinds(root: Path, folder: Path, classes: Mapping[str, _Listed]) -> None:
    """Raises a DataError if the class folders look like something else, such as splits of unknown names."""
    depth = len(folder.relative_to(root).parts) + 1
    common = common_folders(
        {name: ["/".join(path.split("/")[depth:]) for path in found.images] for name, found in classes.items()}
    )
    if common:
        raise DataError(
            f"{folder}: expected a folder a class, found {_listed(tuple(classes))}, which all hold the same folders "
            f"{_listed(common)}; if they are splits, name them train, validation and test"
        )


def _folders_in(folder: Path) -> Iterator[Path]:
    return (child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith((".", "__")))


def _files_in(folders: Sequence[Path], root: Path) -> _Listed:
    """Returns the images in and below some folders; links to folders are not followed."""
    images, skipped, suffixes = [], Counter[str](), image_suffixes()
    for place, inner, names in (found for folder in folders for found in os.walk(folder, onerror=_fail)):
        inner[:] = [name for name in inner if not name.startswith(".")]
        skipped["links to folders"] += sum(os.path.islink(f"{place}/{name}") for name in inner)  # noqa: PTH114  a Path is slow
        inside = Path(place).relative_to(root).as_posix()
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  a Path a file is slow
            if name.startswith("."):
                continue
            if suffix in suffixes:
                images.append(f"{inside}/{name}")
            else:
                skipped[suffix or "without an ending"] += 1
    return _Listed(sorted(images), +skipped)


def _skipped(folder: Path, classes: Iterable[_Listed]) -> Counter[str]:
    """Returns how many files are left out in the class folders of a split and beside them."""
    beside = (child for child in folder.iterdir() if not child.name.startswith(".") and not child.is_dir())
    found = Counter(f"{child.suffix.lower() or 'without an ending'} outside the class folders" for child in beside)
    return sum((listed.skipped for listed in classes), found)


def _log_skipped(root: Path, skipped: Mapping[str, Counter[str]]) -> None:
    counts = []
    for split, found in skipped.items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        counts += [f"in {split} {found.total()} ({kinds})" if split else f"{found.total()} ({kinds})"] if found else []
    if counts:
        logger.warning("%s: files that are taken for no images: %s", root, "; ".join(counts))


def _fail(error: OSError) -> None:
    """Raises the error of a walk, which would else leave out unreadable folders without a message."""
    raise error


def _listed(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """Returns the names as text; of many names only the first few."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
