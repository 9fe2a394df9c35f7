"""The cache folder: downloads, and the hashes of images that were decoded without an error."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

CACHE_VARIABLE = "HARNESS_CACHE"
"""Environment variable for another cache folder."""
SCHEMA_VERSION = 2
"""To be raised when images must be checked again."""

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Returns the user's cache folder of the harness; it may not exist yet."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/robustness-harness").expanduser()


def file_stamp(path: Path) -> str:
    """Returns a text that changes whenever a file is written: its size, and its times of modification and change in ns."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


@dataclass(frozen=True)
class StampedFiles:
    """The stamps of files below a folder at the time when they were read."""

    root: Path
    stamps: Mapping[str, str]
    """Path relative to the root -> stamp."""

    def changed(self) -> list[str]:
        """See `Source`."""
        return [file for file, stamp in self.stamps.items() if self._stamp_now(file) != stamp]

    def _stamp_now(self, file: str) -> str | None:
        try:
            return file_stamp(self.root / file)
        except OSError:
            return None


def load_hashes(root: Path) -> dict[str, str]:
    """Returns the cached hashes of the images under `root`, "<stamp>:<file>" -> sha256; empty if there are none."""
    try:
        memory = json.loads(_memory_of(root).read_text(encoding="utf-8"))
        if memory["schema_version"] == SCHEMA_VERSION:
            return {str(key): str(value) for key, value in memory["hashes"].items()}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.info("the memory of %s is ignored: %s", root, error)
    return {}


def save_hashes(root: Path, hashes: Mapping[str, str]) -> None:
    """Writes the hashes of the images under `root` to the cache, if the cache can be written."""
    memory = _memory_of(root)
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False, encoding="utf-8") as file:
            json.dump({"schema_version": SCHEMA_VERSION, "hashes": dict(hashes)}, file)
        Path(file.name).replace(memory)
    except OSError as error:
        logger.info("the hashes of %s are not remembered: %s", root, error)


def _memory_of(root: Path) -> Path:
    return cache_folder() / "images" / f"{sha256(str(root.resolve()).encode()).hexdigest()[:32]}.json"
