"""`make fuzz-python`: feeds readers with changed files for so many seconds each; exits with 1 if one misbehaves.

python -m tests.fuzz --seconds 600 weights.pth suite.yaml
"""

import argparse
import faulthandler
import hashlib
import logging
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.readers import READERS
from tests.fuzz.trials import Trials

AT_ONCE = 500
"""Files between two looks at the clock."""


def fuzz(trials: Trials, *, seconds: float, first: int) -> None:
    """Runs trials for so many seconds."""
    until, number = time.monotonic() + seconds, first
    while time.monotonic() < until:
        run_some(trials, number, AT_ONCE, until=until)
        number += 1


def run_some(trials: Trials, number: int, count: int, *, until: float = float("inf")) -> None:
    """Runs so many trials, of files that follow from a number, as far as there is time."""

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(trials.reader.files())
    def batch(content: bytes) -> None:
        if time.monotonic() < until:
            trials.run(content)

    batch()


def main() -> int:
    """Parses, fuzzes, prints; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", default=list(READERS))
    parser.add_argument("--seconds", type=float, default=60, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the files that show a fault are kept")
    options = parser.parse_args()
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    kept, wrong = options.folder or Path(tempfile.mkdtemp(prefix="fuzz-")), False
    kept.mkdir(parents=True, exist_ok=True)
    for name in options.readers:
        with tempfile.TemporaryDirectory(dir=kept) as folder:  # stays where the process dies, with the last file
            trials = Trials(READERS[name], Path(folder))
            fuzz(trials, seconds=options.seconds, first=options.seed)
        said = f"{name}: {trials.count} files in {options.seconds:.0f} s, {trials.refused} refused, {len(trials.faults)} faults"
        print(said, flush=True)  # noqa: T201
        for what, content in trials.faults.items():
            place = kept / f"{hashlib.sha256(what.encode()).hexdigest()[:8]}-{name}"
            place.write_bytes(content)
            print(f"  {what} ({place})", flush=True)  # noqa: T201
        wrong |= bool(trials.faults)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
