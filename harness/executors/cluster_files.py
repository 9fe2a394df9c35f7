"""The folder of the files of Ray's own cluster, outside of the store; a killed run leaves it."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.storage.locks import locked, locked_if_free

SOCKETS = "/tmp"  # noqa: S108 - mkdtemp makes the folder in it
"""Where Ray's own cluster keeps its sockets, whose paths may have 107 bytes: Ray itself takes 80 of them."""
FOLDER, LOCK = "harness-ray-", "lock"
"""Begins the name of that folder; the file in it that is locked as long as the run."""
ABANDONED = 60.0
"""Seconds between the clock and the time of a folder without a lock, after which it belongs to a killed run."""
PROCESSES = Path("/proc")
"""Where Linux shows them."""


@contextmanager
def own_folder() -> Iterator[str]:
    """Makes a folder for the files of Ray's own cluster, removed at the end; removes those of killed runs first."""
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=SOCKETS))
    try:
        with locked(folder / LOCK, "Ray"):
            yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned() -> None:
    """Removes this user's folders of killed runs."""
    for left in Path(SOCKETS).glob(f"{FOLDER}*"):
        with suppress(OSError):  # another run removed it
            if _may_be_abandoned(left) and not _is_used(left):
                with locked_if_free(left / LOCK) as free:
                    if free:
                        shutil.rmtree(left, ignore_errors=True)


def _may_be_abandoned(folder: Path) -> bool:
    """Returns whether a folder is this user's, and its run has taken its lock or had the time to."""
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):  # its lock might be a link to a file of this user
        return False
    return (folder / LOCK).is_file() or abs(time.time() - found.st_mtime) > ABANDONED  # also where the clock was set back


def _is_used(folder: Path) -> bool:
    """Returns whether a process is alive that was started for a folder, or has files of it open beside the lock.

    Some processes of Ray notice within seconds or minutes that their run was killed; one that starts makes the folder again.
    """
    return any(_uses(process, folder) for process in PROCESSES.glob("[0-9]*"))


def _uses(process: Path, folder: Path) -> bool:
    with suppress(OSError):  # it has ended, or is another user's
        if os.fsencode(folder) in (process / "cmdline").read_bytes():
            return True
        return any(_leads_into(link, folder) for link in (process / "fd").iterdir())
    return False


def _leads_into(link: Path, folder: Path) -> bool:
    with suppress(OSError):  # it was closed
        return folder in (file := link.readlink()).parents and file != folder / LOCK
    return False
