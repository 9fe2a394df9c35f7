"""Decodes every image once before a data set is used, so that a damaged file stops a run before it starts."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from harness.datasets.cache import StampedFiles, file_stamp, load_hashes, save_hashes
from harness.datasets.decoding import check_encoded, read_encoded
from harness.errors import DataError

MOST_NAMED = 5
"""Number of damaged files that an error names; it counts the others."""


class SoundFiles(NamedTuple):
    """Images that can be decoded."""

    hashes: list[str]
    """The sha256 of every file, in the order of the files."""
    source: StampedFiles
    """The stamps of the files, which show later changes."""


def sound_files(root: Path, files: Sequence[str]) -> SoundFiles:
    """Returns the hashes of images after decoding them, in threads; unchanged files with a cached hash are not read again.

    Args:
        root: The folder of the files.
        files: Paths relative to `root`.

    Raises:
        DataError: if files cannot be read or decoded; names the first few and says how many.
    """
    known = load_hashes(root)
    found: dict[str, str] = {}
    damaged: dict[str, str] = {}
    stamps: dict[str, str] = {}

    def check(file: str) -> None:
        try:
            stamps[file] = file_stamp(root / file)
            key = f"{stamps[file]}:{file}"  # see `_file_of`
            found[key] = known.get(key) or check_encoded(read_encoded(root / file))
            hashes[file] = found[key]
        except Exception as error:  # Pillow's readers raise many types on damaged files
            damaged[file] = " ".join(str(error).split()) or type(error).__name__

    hashes: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1))) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such images are refused
        list(pool.map(check, files))
    if found.keys() - known.keys():
        others = {key: content for key, content in known.items() if _file_of(key) not in stamps}
        save_hashes(root, {**others, **found})
    if damaged:
        raise DataError(_message(root, {file: damaged[file] for file in files if file in damaged}))
    return SoundFiles([hashes[file] for file in files], StampedFiles(root, {file: stamps[file] for file in files}))


def _file_of(key: str) -> str:
    """Returns the file of a key "<stamp>:<file>"; the stamp has three numbers."""
    return key.split(":", maxsplit=3)[-1]


def _message(root: Path, damaged: dict[str, str]) -> str:
    named = "; ".join(f"{file} ({reason})" for file, reason in list(damaged.items())[:MOST_NAMED])
    more = f"; and {len(damaged) - MOST_NAMED} more" if len(damaged) > MOST_NAMED else ""
    return f"{root}: expected images that can be decoded, got {len(damaged)} broken: {named}{more}"
