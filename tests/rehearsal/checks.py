"""What must hold of a store and of tables whenever a run was killed."""

from pathlib import Path

import pandas as pd

from harness.errors import StoreError
from harness.executors.cluster_files import FOLDER, SOCKETS
from harness.storage.store import DAMAGED, LOCKS, META, PARTIAL, RESULTS, Entry, Store

TIMES = ("seconds", "attack_share", "peak_memory_mb", "images_per_second", "created", "ms_per_image")
"""Columns that differ between any two runs: times, and the memory of the process at that moment."""


def broken_entries(store: Store) -> list[str]:
    """Returns the entries of a store that are not whole."""
    found = []
    for folder in store.root.glob("[!.]*/[!.]*"):
        entry = Entry(folder.parent.name, folder.name, folder)
        try:
            damaged = store.damaged_files(entry) if (folder / META).is_file() else [META]
        except StoreError as error:
            damaged = [str(error)]
        if damaged:
            found.append(f"{entry.kind}/{entry.digest[:12]}: {', '.join(damaged)}")
    return found


def left_behind(store: Store) -> list[str]:
    """Returns what lies in a store, or in the results folders beside it, that is neither an entry nor a note."""
    found = [path for name in (LOCKS, PARTIAL, DAMAGED) for path in (store.root / name).glob("*")]
    found += store.root.glob("[!.]*/.*")
    found += [path for path in store.root.glob(".*") if path.name not in (LOCKS, PARTIAL, DAMAGED, RESULTS)]
    found += (store.root / RESULTS).glob(".*")
    found += [path for path in store.root.parent.rglob(".*") if store.root not in (path, *path.parents) and path.name != KEPT]
    return sorted(str(path.relative_to(store.root.parent)) for path in found)


def folders_of_ray() -> set[str]:
    """Returns the folders that Ray's own clusters keep outside of the store."""
    return {str(path) for path in Path(SOCKETS).glob(f"{FOLDER}*")}


KEPT = ".statistics.json"
"""What a results folder keeps beside its tables."""


def differences(found: Path, expected: Path) -> list[str]:
    """Returns in what the tables of two results folders differ, apart from times."""
    names = [{str(path.relative_to(folder)) for path in tables(folder)} for folder in (found, expected)]
    lines = [f"{name}: only in one of the two" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        one, other = (_read(folder / name) for folder in (found, expected))
        if not one.equals(other):
            lines.append(f"{name}: other values")
    return lines


def tables(folder: Path) -> list[Path]:
    """Returns all tables of a results folder."""
    return [path for path in folder.rglob("*") if path.suffix in (".csv", ".parquet") and not path.name.startswith(".")]


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    return table.drop(columns=[name for name in table.columns if any(time in name for time in TIMES)])
