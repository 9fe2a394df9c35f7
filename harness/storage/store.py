"""The content-addressed store of steps: `<root>/<kind>/<digest>/{meta.json, payload...}`.

An entry is written to a temporary directory and renamed into place with its meta.json complete. So an entry is either whole or
absent, whenever a process is killed. Existing entries are never overwritten. Of several processes on one store, one at a time
works on a step.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.errors import StoreError
from harness.storage.locks import locked, locked_if_free
from harness.system.umask import follow_umask

META = "meta.json"
PARTIAL = ".partial"
LOCKS = ".claims"
"""Folder of the locks; stores of earlier versions have the same."""
DAMAGED = ".damaged"
RESULTS = ".results"
"""Folder of notes of the results folders."""
LOCK_DIGITS = 12
"""Digits of a digest that name its lock and its temporary directories."""
TEMPORARY_OF = "*/.{}.????????"
"""Pattern of the temporary directories that a lock names."""
SCHEMA_VERSION = 1
RECORDED = ("schema_version", "kind", "digest", "files")
"""What every meta.json holds."""
SHORTEST_PREFIX = 4
DIGITS = 64
"""Of a digest."""
CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A complete entry of the store."""

    kind: str
    digest: str
    path: Path

    @property
    def meta(self) -> dict[str, Any]:
        """The entry's meta.json."""
        return read_json(self.path / META)


class Store:
    """The steps that have been computed, under one folder.

    Args:
        root: The folder; made when the first entry is written.
    """

    def __init__(self, root: Path) -> None:
        """See the class."""
        self.root = root
        self._is_searched = False

    def get(self, kind: str, digest: str) -> Entry | None:
        """Returns the entry, or None where it is absent.

        Raises:
            StoreError: if its folder may not be read.
        """
        path = self.root / kind / digest
        with _disk_errors(path, "read"):
            return Entry(kind, digest, path) if (path / META).is_file() else None

    def find(self, prefix: str) -> list[Entry]:
        """Returns the entries whose digest begins with `prefix`, of at least four digits.

        Raises:
            StoreError: if the prefix is too short.
        """
        if len(prefix) < SHORTEST_PREFIX:
            raise StoreError(f"digest {prefix!r}: expected at least {SHORTEST_PREFIX} digits")
        name = prefix if len(prefix) == DIGITS else f"{prefix}*"  # of a whole digest no folder is listed
        found = sorted(self.root.glob(f"*/{name}/{META}")) if prefix.isalnum() else []
        return [Entry(path.parent.parent.name, path.parent.name, path.parent) for path in found]

    @contextmanager
    def locked(self, digest: str, title: str) -> Iterator[None]:
        """Lets one process at a time work on a step; a second one waits, and says in one line for which process.

        It first removes what killed processes left half written, of any step.

        Args:
            digest: The step's digest.
            title: What the step is called, for those who wait.

        Raises:
            StoreError: if the store cannot be written.
        """
        with ExitStack() as stack:
            with _disk_errors(self.root):
                self._tidy()
                stack.enter_context(locked(self.lock_file(digest), title))
            yield

    @contextmanager
    def writing(self, kind: str, digest: str, meta: Mapping[str, Any]) -> Iterator[Path]:
        """Gives a temporary directory that becomes the entry when the block ends without an error; to be used in `locked`.

        Args:
            kind: The step's kind.
            digest: The step's digest.
            meta: What to record; the hashes of the payload files are added. A mutable mapping may still be filled
                inside the block.

        Raises:
            StoreError: if the store cannot be written, for example because the disk is full.
        """
        target = self.root / kind / digest
        with _disk_errors(self.root):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.parent / f".{digest[:LOCK_DIGITS]}.{uuid.uuid4().hex[:8]}"
            temporary.mkdir()
        try:
            yield temporary
            with _disk_errors(self.root):
                for path in _files_below(temporary):
                    follow_umask(path)
                files = {str(path.relative_to(temporary)): sha256_of_file(path) for path in _files_below(temporary)}
                write_json(
                    temporary / META, {"schema_version": SCHEMA_VERSION, "kind": kind, "digest": digest, **meta, "files": files}
                )
                _move_into_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def check_writable(self) -> None:
        """Writes to the store and removes it again, so that nothing is computed that could not be kept.

        Raises:
            StoreError: if it cannot be written.
        """
        with _disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self.root, prefix=".writable-"):
                pass

    def note_results(self, folder: Path) -> None:
        """Notes a results folder whose tables name steps of this store, so that `harness gc` finds it wherever it lies."""
        place = str(folder.absolute())
        note = self.root / RESULTS / hashlib.sha256(place.encode()).hexdigest()[:LOCK_DIGITS]
        if not note.is_file():
            with _disk_errors(self.root):
                note.parent.mkdir(parents=True, exist_ok=True)
                write_json(note, {"folder": place})

    def noted_results(self) -> list[Path]:
        """Returns the results folders that were noted; some may be gone.

        Raises:
            StoreError: if a note is damaged.
        """
        notes = sorted(path for path in (self.root / RESULTS).glob("*") if not path.name.startswith("."))
        return [Path(str(read_json(note).get("folder", ""))) for note in notes]

    def partial(self, digest: str) -> Path:
        """Returns the folder where an unfinished step may keep its checkpoints; it survives a killed process."""
        folder = self.root / PARTIAL / digest
        with _disk_errors(self.root):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_partial(self, digest: str) -> None:
        """Removes what an unfinished step kept."""
        shutil.rmtree(self.root / PARTIAL / digest, ignore_errors=True)

    def lock_file(self, digest: str) -> Path:
        """Returns the file that is locked by who works on a step."""
        return self.root / LOCKS / digest[:LOCK_DIGITS]

    def remove_left_behind(self) -> None:
        """Removes the temporary directories of killed processes; those of processes at work stay."""
        for folder in self.root.glob(TEMPORARY_OF.format("?" * LOCK_DIGITS)):
            with locked_if_free(self.lock_file(folder.name[1:])) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)

    def _tidy(self) -> None:
        """Removes what killed processes left half written: first all of it, then what is named by a lock that they left, too.

        To list the locks takes no time; a store of 22,000 entries takes 0.05 s, before each step a quarter of an hour.
        """
        if not self._is_searched:
            self.remove_left_behind()
            self._is_searched = True
        for lock in (self.root / LOCKS).glob("?" * LOCK_DIGITS):
            with locked_if_free(lock) as free:
                for folder in self.root.glob(TEMPORARY_OF.format(lock.name)) if free else ():
                    shutil.rmtree(folder, ignore_errors=True)

    def remove_free_locks(self) -> None:
        """Removes the files of locks that killed processes held; those of processes at work stay."""
        for left in (self.root / LOCKS).glob("*"):
            with suppress(OSError), locked_if_free(left):  # another user's may not be opened
                pass

    def damaged_files(self, entry: Entry) -> list[str]:
        """Returns the files of an entry that are missing, differ from their recorded hash, or are no complete record.

        Raises:
            StoreError: if one cannot be read, for example because it belongs to another user.
        """
        with _disk_errors(entry.path, "read"):
            if (hashes := _recorded_hashes(entry)) is None:
                return [META]
            return [
                name
                for name, expected in hashes.items()
                if not (entry.path / name).is_file() or sha256_of_file(entry.path / name) != expected
            ]

    def set_aside(self, entry: Entry) -> Path:
        """Moves a damaged entry out of the way, and returns where it lies now; to be used in `locked`.

        Raises:
            StoreError: if the store cannot be written.
        """
        place = self.root / DAMAGED / f"{entry.kind}.{entry.digest[:LOCK_DIGITS]}.{uuid.uuid4().hex[:8]}"
        with _disk_errors(self.root):
            place.parent.mkdir(parents=True, exist_ok=True)
            entry.path.rename(place)
        return place


def remove_tree(folder: Path) -> None:
    """Removes a folder of a store with all that is in it.

    Raises:
        StoreError: if it cannot be removed.
    """
    with _disk_errors(folder, "removed"):
        shutil.rmtree(folder)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        StoreError: if the file is missing or damaged.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: expected a JSON file, found {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file in one move: a reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
    temporary.replace(path)


def sha256_of_file(path: Path) -> str:
    """Returns the sha256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _recorded_hashes(entry: Entry) -> dict[str, str] | None:
    """Returns file -> hash as an entry's meta.json records them; None where it is damaged or that of another entry."""
    try:
        record = json.loads((entry.path / META).read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not record.keys() >= set(RECORDED):
        return None
    hashes, is_own = record["files"], (record["kind"], record["digest"]) == (entry.kind, entry.digest)
    return hashes if is_own and isinstance(hashes, dict) else None


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _move_into_place(temporary: Path, target: Path) -> None:
    """Renames; where another process finished the same step first, its entry stays."""
    try:
        temporary.rename(target)
    except OSError:
        if not (target / META).is_file():
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)


@contextmanager
def _disk_errors(place: Path, verb: str = "written") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{place}: the store cannot be {verb}: {error.strerror or error}") from error
