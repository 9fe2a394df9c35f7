"""`harness gc`: shows, and removes on request, what of a store no results folder refers to."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console
from harness.cli.options import StoreOption
from harness.errors import HarnessError, StoreError
from harness.system.messages import printable

MEGABYTE = 1e6
SHORT = 12


def gc(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="[RESULTS]...", help="Results folders, by default all that runs wrote.")
    ] = None,
    suites: Annotated[list[str] | None, typer.Option("--suite", help="A suite whose steps stay too; may be repeated.")] = None,
    store: StoreOption = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are only shown.")] = False,
) -> None:
    """Show what of a store no results folder or suite refers to, and how large it is; --delete removes it.

    Steps of runs stay that still work, or were killed.
    """
    from harness.cli.inspection import open_store
    from harness.reports.load import is_results_folder
    from harness.running.watching import RUN_FILE, steps_of_runs
    from harness.storage.garbage import garbage, named_by, remove

    opened = open_store(store)
    if not opened.root.is_dir():
        raise StoreError(f"{opened.root}: expected a store, found no such folder")
    near = {path.parent.absolute() for name in ("provenance.json", RUN_FILE) for path in opened.root.parent.glob(f"*/{name}")}
    known = sorted(near | set(opened.noted_results()))
    folders = results or [folder for folder in known if is_results_folder(folder)]
    if not folders and not suites:
        raise HarnessError(f"{opened.root.parent}: expected results folders, found none; name them, or suites whose steps stay")
    at_work = steps_of_runs({*folders, *(folder for folder in known if (folder / RUN_FILE).is_file())})
    found = garbage(opened, named_by(folders) | at_work | _planned(suites or []))
    rows = [(printable(it.what), it.digest[:SHORT], f"{it.size / MEGABYTE:.1f}", it.created[:10]) for it in found]
    if rows:
        console.show_table("", ["what", "digest", "MB", "made"], rows)
    total = f"{len(found)} folders, {sum(it.size for it in found) / MEGABYTE:.1f} MB"
    if not delete:
        console.stdout.print(f"{total} that nothing refers to in {len(folders)} results folders; --delete removes them")
        return
    busy = remove(opened, found)
    _remove_what_killed_runs_left(known)
    console.stdout.print(f"removed {total}" + (f"; {len(busy)} of them stay, as a process works on them" if busy else ""))


def _remove_what_killed_runs_left(folders: list[Path]) -> None:
    """Removes what they left outside of the store: half-written results, and the files of Ray's own clusters."""
    from harness.executors.cluster_files import remove_abandoned
    from harness.reports.files import remove_left_behind

    for folder in folders:
        with suppress(OSError):  # results of another user, or on a disk that is read-only now
            remove_left_behind(folder)
    remove_abandoned()


def _planned(suites: list[str]) -> set[str]:
    from harness.cli.inspection import plan_suite
    from harness.suites.files import load_suite

    return {step.digest for suite in suites for step in plan_suite(load_suite(suite)).steps}
