"""Writes to a results folder, so that a killed process never leaves half of one."""

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import HarnessError
from harness.storage.locks import locked, locked_if_free

STAGING = ".staging-"
"""Begins the names of directories in which results are written before they are moved into place."""
LOCK = ".claim"
"""Ends the name of the file beside such a directory that is locked as long as its process lives."""


@contextmanager
def staged(folder: Path, *, owned: Mapping[str, tuple[str, ...]]) -> Iterator[Path]:
    """Gives an empty directory; its files replace those of `folder`, one by one, when the block ends without an error.

    It first removes such directories of killed processes; those of other processes at work stay.

    Args:
        folder: The results folder; made if it does not exist.
        owned: Subfolder -> endings of the files in it that are removed if this writing did not renew them. Every
            other file that is not renewed stays.

    Raises:
        HarnessError: if the folder cannot be written.
    """
    with ExitStack() as stack:
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_left_behind(folder)
            staging = folder / f"{STAGING}{uuid.uuid4().hex[:8]}"
            stack.enter_context(locked(_lock_file(staging), "results"))
            stack.callback(shutil.rmtree, staging, ignore_errors=True)
            staging.mkdir()
        with _disk_errors(folder):
            yield staging
            renewed = {path.relative_to(staging) for path in staging.rglob("*") if path.is_file()}
            for name in sorted(renewed):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (staging / name).replace(folder / name)
            for path in _owned_files(folder, owned) - {folder / name for name in renewed}:
                path.unlink()


def remove_left_behind(folder: Path) -> None:
    """Removes the directories of killed processes, and their locks."""
    for staging in {path.with_name(path.name.removesuffix(LOCK)) for path in folder.glob(f"{STAGING}*")}:
        with locked_if_free(_lock_file(staging)) as free:
            if free:
                shutil.rmtree(staging, ignore_errors=True)


def _lock_file(staging: Path) -> Path:
    return staging.with_name(f"{staging.name}{LOCK}")


def _owned_files(folder: Path, owned: Mapping[str, tuple[str, ...]]) -> set[Path]:
    return {path for name, endings in owned.items() for path in (folder / name).glob("*") if path.suffix in endings}


def check_writable(folder: Path) -> None:
    """Makes a results folder and writes to it, so that one that cannot be written is known before anything is computed.

    Raises:
        HarnessError: if it cannot be made or written.
    """
    with staged(folder, owned={}):
        pass


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one move.

    Raises:
        HarnessError: if it cannot be written.
    """
    with staged(path.parent, owned={}) as staging:
        (staging / path.name).write_text(text, encoding="utf-8")


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HarnessError(f"{folder}: the results cannot be written: {error.strerror or error}") from error
