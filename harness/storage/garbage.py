"""What of a store no results folder refers to."""

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.storage.locks import locked_if_free
from harness.storage.store import DAMAGED, META, PARTIAL, Store, read_json, remove_tree

DERIVED = ("export", "bundle")
"""Kinds of steps that no results folder names: `harness crosscheck` makes them of a model that one names."""

DIGEST = re.compile("[0-9a-f]{64}")
"""What the folder of an entry is called."""


@dataclass(frozen=True)
class Garbage:
    """A folder of a store that nothing refers to."""

    path: Path
    digest: str
    what: str
    """The step's title, or what kind of leftover it is."""
    size: int
    """Bytes of its files."""
    created: str = ""


@dataclass(frozen=True)
class _Stored:
    path: Path
    kind: str
    digest: str
    title: str
    created: str
    inputs: frozenset[str]


def garbage(store: Store, named: Iterable[str]) -> list[Garbage]:
    """Returns what of a store is named by nothing, largest first.

    A named step keeps the steps that it was computed from, and the newest exports and bundles of the models among these.
    Checkpoints of unfinished steps stay as long as the step is named. What was set aside as damaged always goes.

    Args:
        store: The store.
        named: Digests of the steps that results folders, runs at work or plans name.
    """
    entries, kept = {entry.digest: entry for entry in _entries(store)}, set(named)
    _add_inputs(kept, entries)
    _add_newest_derived(kept, entries)
    found = [
        Garbage(entry.path, entry.digest, entry.title, _size(entry.path), entry.created)
        for entry in entries.values()
        if entry.digest not in kept
    ]
    unfinished = [path for path in _folders(store.root / PARTIAL) if path.name not in kept or path.name in entries]
    found += [Garbage(path, path.name, "checkpoint of an unfinished step", _size(path)) for path in unfinished]
    found += [Garbage(path, "", f"set aside as damaged: {path.name}", _size(path)) for path in _folders(store.root / DAMAGED)]
    return sorted(found, key=lambda it: -it.size)


def remove(store: Store, found: Iterable[Garbage]) -> list[Garbage]:
    """Removes garbage from a store, and what killed processes left; returns what stays, as a process works on it.

    Raises:
        StoreError: if a folder cannot be removed.
    """
    busy = []
    for it in found:
        with locked_if_free(store.lock_file(it.digest or it.path.name)) as free:
            if free:
                remove_tree(it.path)
            else:
                busy.append(it)
    store.remove_left_behind()
    store.remove_free_locks()
    return busy


def named_by(folders: Iterable[Path]) -> set[str]:
    """Returns the digests of the steps that results folders name in their provenance.json.

    Raises:
        StoreError: if one of the files is damaged.
    """
    found: set[str] = set()
    for folder in folders:
        steps = read_json(folder / "provenance.json").get("steps") or {}
        if not isinstance(steps, Mapping):
            raise StoreError(f"{folder / 'provenance.json'}: steps: expected digests with titles, found {type(steps).__name__}")
        found |= {str(digest) for digest in steps}
    return found


def _entries(store: Store) -> Iterator[_Stored]:
    """Yields the whole entries of a store; damaged ones count as made of nothing.

    A folder whose name is no digest is another program's, and no entry.
    """
    for path in sorted(store.root.glob(f"*/*/{META}")):
        kind, digest = path.parent.parent.name, path.parent.name
        if kind.startswith(".") or not DIGEST.fullmatch(digest):
            continue
        try:
            meta: Mapping[str, Any] = read_json(path)
        except StoreError:
            meta = {}
        spec = meta.get("spec")
        inputs = spec.get("inputs") if isinstance(spec, Mapping) else None
        digests = frozenset(map(str, inputs.values())) if isinstance(inputs, Mapping) else frozenset()
        title, created = str(meta.get("title", "a damaged entry")), str(meta.get("created", ""))
        yield _Stored(path.parent, kind, digest, title, created, digests)


def _add_inputs(kept: set[str], entries: Mapping[str, _Stored]) -> None:
    ahead = list(kept)
    while ahead:
        entry = entries.get(ahead.pop())
        new = (entry.inputs if entry else frozenset()) - kept
        kept |= new
        ahead += new


def _add_newest_derived(kept: set[str], entries: Mapping[str, _Stored]) -> None:
    """Adds the exports and bundles of kept models, and those made of these in turn."""
    before = -1
    while before < len(kept):
        before = len(kept)
        kept |= _newest_derived(kept, entries)


def _newest_derived(kept: Set[str], entries: Mapping[str, _Stored]) -> set[str]:
    newest: dict[tuple[str, str, frozenset[str]], _Stored] = {}
    now = datetime.now(UTC).isoformat()  # what a clock that was ahead dated later counts as old
    for entry in entries.values():
        if entry.kind in DERIVED and entry.inputs and entry.inputs <= kept:
            place = (entry.kind, entry.title, entry.inputs)
            newest[place] = max(entry, newest.get(place, entry), key=lambda it: (it.created <= now, it.created))
    return {entry.digest for entry in newest.values()}


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir())


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a process that works on the step removed it in between
            size += path.stat().st_size if path.is_file() else 0
    return size
