"""`python -m tests.rehearsal`: rehearses bad days on a small suite; prints figures, exits with 1 if anything was lost.

python -m tests.rehearsal --kills 200 --jobs 1 2 --folder /tmp/rehearsal
"""

import argparse
import logging
import os
import sys
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the number of threads decides the order of sums


def main() -> int:
    """Parses, rehearses, prints; returns the exit code."""
    from tests.rehearsal.clock import jumping_clock
    from tests.rehearsal.disks import full_disk, read_only_store
    from tests.rehearsal.kills import rehearse, together
    from tests.rehearsal.stopped import stopped_holder

    parts = {
        "together": together,
        "stopped": stopped_holder,
        "clock": jumping_clock,
        "full": full_disk,
        "read-only": read_only_store,
    }

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="for each executor and number of jobs")
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--executor", nargs="*", default=["local"], help="local, ray")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    parser.add_argument("--only", nargs="*", default=["kills", *parts])
    options = parser.parse_args()
    faults: list[str] = []
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("HARNESS_CACHE", str(folder / "cache"))
        for executor, jobs in product(options.executor, options.jobs) if "kills" in options.only else ():
            before = time.monotonic()
            found = rehearse(folder, kills=options.kills, jobs=jobs, seed=options.seed, executor=executor)
            seconds = time.monotonic() - before
            print(f"{executor}, jobs {jobs}: {found}, {seconds:.0f} s", flush=True)  # noqa: T201
            faults += found.faults
        for name, part in parts.items():
            if name in options.only:
                lines = part(folder)
                print(f"{name}: {len(lines)} faults", flush=True)  # noqa: T201
                faults += lines
    print(*faults, sep="\n")  # noqa: T201
    return int(bool(faults))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    import h5py  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.datasets  # noqa: F401

    import harness.reports.figures.curves
    import harness.reports.page.html
    import harness.steps.evaluate
    import harness.training.loop  # noqa: F401 - before the forks

    sys.exit(main())
