"""Locks: of all processes that share a folder, one at a time works on a thing.

A lock is a locked file. The system frees it when its process ends, however it ends. So where a lock is free no process works.
"""

import fcntl
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, title: str) -> Iterator[None]:
    """Holds a lock inside the block; where another process holds it, says so in one line and waits.

    Args:
        path: The file of the lock; made, and removed at the end.
        title: What is locked, for those who wait.

    Raises:
        OSError: if the file cannot be written or locked.
    """
    if (file := _taken(path)) is None:
        logger.warning("%s: waiting for %s, which works on it", title, _holder_of(path))
        while (file := _taken(path, wait=fcntl.LOCK_EX)) is None:
            continue
    try:
        yield
    finally:
        _unlock(file, path)


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Holds a lock inside the block if it is free; gives whether it holds it.

    Raises:
        OSError: as `locked`.
    """
    file = _taken(path)
    try:
        yield file is not None
    finally:
        if file is not None:
            _unlock(file, path)


def _taken(path: Path, wait: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> TextIOWrapper | None:
    """Returns the locked file, or None where it is held, or was removed between opening and locking it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, wait)
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise BlockingIOError
        file.truncate(0)
        json.dump({"process": os.getpid(), "host": platform.node()}, file)
        file.flush()
    except (BlockingIOError, FileNotFoundError):
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    return file


def _unlock(file: TextIOWrapper, path: Path) -> None:
    """Removes the file before it is unlocked; unlocks it in child processes too, which share the lock."""
    path.unlink(missing_ok=True)
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


def _holder_of(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['process']} on {holder['host']}"
    except (OSError, ValueError):
        return "another process"
