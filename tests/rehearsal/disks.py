"""A disk that is full, and a store that may not be written: one line, exit code 2, nothing lost."""

import os
from pathlib import Path

from tests.rehearsal.checks import broken_entries, differences
from tests.rehearsal.kills import Place, quiet

SIZES = (1_500, 2_000, 20_000, 60_000)
"""Bytes above which no file can be written: the note of the run, small outcomes, larger ones, the figures and the report."""


def full_disk(folder: Path) -> list[str]:
    """Returns what is wrong with runs that can write no file above a size, and with the run after them."""
    expected, _ = quiet(Place(folder / "quiet-full"))
    place, faults = Place(folder / "full"), []
    for size in SIZES:
        place.log.write_bytes(b"")
        code = place.run(file_size=size).end()
        faults += _other_than_refused(f"files up to {size} bytes", code, place.log)
        faults += [f"files up to {size} bytes: {line}" for line in broken_entries(place.store)]
    codes = [place.run().end(), place.run().end()]
    faults += [f"with room again: exit codes {codes}"] if any(codes) else []
    return faults + [f"with room again: {line}" for line in differences(place.results, expected)]


def read_only_store(folder: Path) -> list[str]:
    """Returns what is wrong with a run whose store may not be written; nothing for who may write everywhere."""
    place = Place(folder / "read-only")
    place.store.root.mkdir()
    place.store.root.chmod(0o555)
    if os.access(place.store.root, os.W_OK):
        place.store.root.rmdir()
        place.store.root.write_text("")  # not even root makes a folder in a file
    return _other_than_refused("a store that may not be written", place.run().end(), place.log)


def _other_than_refused(where: str, code: int, log: Path) -> list[str]:
    said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("harness: ")]
    faults = [] if code == 2 else [f"{where}: exit code {code}"]
    return faults if len(said) == 1 else [*faults, f"{where}: expected one line that begins with harness:, got {said}"]
