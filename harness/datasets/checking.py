"""Every image is decoded once before a data set is used, so a broken file stops a run before it starts."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.datasets.cache import file_stamp, load_hashes, save_hashes
from harness.datasets.decoding import check_encoded
from harness.errors import DataError

MOST_NAMED = 5
"""Broken files that an error names; the others are counted."""


def sound_hashes(root: Path, files: Sequence[str]) -> list[str]:
    """Decodes and hashes images, in threads, except those that were found sound before and have not changed since.

    Args:
        root: The folder that the files lie under.
        files: Paths relative to `root`.

    Returns:
        The sha256 of every file.

    Raises:
        DataError: if files cannot be read or decoded; names the first few and says how many.
    """
    known = load_hashes(root)
    found: dict[str, str] = {}
    broken: dict[str, str] = {}

    def check(file: str) -> None:
        try:
            key = f"{file_stamp(root / file)}:{file}"
            found[key] = known.get(key) or check_encoded((root / file).read_bytes())
            hashes[file] = found[key]
        except Exception as error:  # Pillow's readers raise many types on damaged files
            broken[file] = " ".join(str(error).split()) or type(error).__name__

    hashes: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1))) as pool:
        list(pool.map(check, files))
    if found.keys() - known.keys():
        save_hashes(root, found)
    if broken:
        raise DataError(_complaint(root, {file: broken[file] for file in files if file in broken}))
    return [hashes[file] for file in files]


def _complaint(root: Path, broken: dict[str, str]) -> str:
    named = "; ".join(f"{file} ({reason})" for file, reason in list(broken.items())[:MOST_NAMED])
    more = f"; and {len(broken) - MOST_NAMED} more" if len(broken) > MOST_NAMED else ""
    return f"{root}: expected images that can be decoded, got {len(broken)} broken: {named}{more}"
