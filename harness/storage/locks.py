"""Locks: of all processes that share a folder, one at a time works on a thing.

A lock is a locked file. The system frees it when its process ends, however it ends. So where a lock is free no process works.
A child that is forked while a lock is held closes its copy of the file: else the lock would live as long as the child.
"""

import fcntl
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

logger = logging.getLogger(__name__)

_held: set[FileIO] = set()
"""The locked files of this process."""


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
        logger.warning("%s: waiting for %s", title, _holder_of(path))
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


def _taken(path: Path, wait: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> FileIO | None:
    """Returns the locked file, or None where it is held, or was removed between opening and locking it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b", buffering=0)  # without a buffer a forked child can close it, whatever other threads did
    _held.add(file)
    try:
        fcntl.flock(file, wait)
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise BlockingIOError
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": platform.node()}).encode())
    except (BlockingIOError, FileNotFoundError):
        _close(file)
        return None
    except BaseException:
        _close(file)
        raise
    return file


def _unlock(file: FileIO, path: Path) -> None:
    """Removes the file before it is unlocked; does neither in a child, whose copy is closed."""
    if not file.closed:
        path.unlink(missing_ok=True)
        fcntl.flock(file, fcntl.LOCK_UN)
        _close(file)


def _close(file: FileIO) -> None:
    _held.discard(file)
    file.close()


def _forget_in_child() -> None:
    """Closes a forked child's copies of the locked files, which stay locked by the parent."""
    for file in list(_held):
        _close(file)


os.register_at_fork(after_in_child=_forget_in_child)


def _holder_of(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        process, host = int(holder["process"]), holder["host"]
    except (OSError, ValueError):
        return "another process, which works on it"
    does = "is stopped; SIGCONT lets it go on" if host == platform.node() and _is_stopped(process) else "works on it"
    return f"process {process} on {host}, which {does}"


def _is_stopped(process: int) -> bool:
    """Returns whether a process of this machine is stopped by a signal, as Linux shows it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False
