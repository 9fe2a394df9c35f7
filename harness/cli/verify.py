"""The verb that checks finished work: a suite's stored steps, or the tables of a results folder.

It imports what it needs when it runs, as all verbs do.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from harness.cli import console
from harness.cli.exit_codes import BAD_INPUT, CHECK_FAILED
from harness.cli.options import DeviceOption, SetOption, StoreOption
from harness.errors import DataError, HarnessError, ModelError, SuiteError, naming
from harness.system.messages import counted, printable

if TYPE_CHECKING:
    from harness.reports.load import Results
    from harness.running.verification.findings import Findings

MOST_LINES = 40
"""Differences that are printed; of the others the number is."""


def verify(
    target: Annotated[str, typer.Argument(metavar="RESULTS|SUITE", help="A folder of results, or a suite as elsewhere.")],
    overrides: SetOption = None,
    store: StoreOption = None,
    share: Annotated[
        float | None,
        typer.Option("--recompute", metavar="SHARE", help="Compute this share of the cells anew: 0.05."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws the cells of --recompute.")] = 0,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="FILE", help="Attacked images from elsewhere (HDF5, npz): judge them too.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Check finished work; exit 0 if all is as it should be, 1 if anything differs, 2 if it cannot be verified.

    RESULTS: derive every number that follows from its cells, from store and samples.parquet, and name each entry that differs.

    --recompute measures some cells again with the stored models: the same to the last digit on the same machine.

    --images checks ball and bounds, asks the model, and writes best_known.csv: such images only lower what is best known.

    SUITE: compare the stored results of its steps with their recorded hashes; exit 1 on damage, or if there are none.
    """
    if is_results(target):
        if overrides:
            raise SuiteError("--set: expected a suite beside it, got a folder of results")
        _verify_results(Path(target), store, Extras(share, seed, images, device))
    else:
        if (given := "--images" if images else "--recompute" if share is not None else None) is not None:
            raise SuiteError(f"{given}: expected a folder of results beside it, got a suite")
        _verify_suite(target, overrides, store)


def is_results(target: str) -> bool:
    """Returns whether a text names a folder of results, and not a suite."""
    from harness.suites.files import shipped_suites

    path = Path(target)
    return path.is_dir() and ((path / "cells.csv").is_file() or target not in shipped_suites())


class Extras(NamedTuple):
    """What is checked beside the tables."""

    share: float | None
    seed: int
    images: Path | None
    device: str


def _verify_results(folder: Path, store: Path | None, extras: Extras) -> None:
    from harness.reports.load import load_results, reading_tables
    from harness.running.verification.rederive import verify_tables
    from harness.storage.store import Store

    results, place = load_results(folder), store_of(folder, store)
    with reading_tables(folder):
        found = verify_tables(results, None if place is None else Store(place))
    if place is None:
        found.notes.append("found no store; --store names one")
    if extras.share is not None or extras.images is not None:
        _beyond_tables(results, place, extras, found)
    show(found)


def _beyond_tables(results: "Results", store: Path | None, extras: Extras, found: "Findings") -> None:
    """Computes cells anew, and judges images; both need the models in the store."""
    from harness.running.verification.identities import suite_of
    from harness.running.verification.images import verify_images
    from harness.running.verification.recompute import recompute
    from harness.running.workspace import open_workbench

    if store is None:
        given = "--images" if extras.share is None else "--recompute"
        raise HarnessError(f"{given}: expected a store with the models, found none; --store names one")
    progress = console.progress_display()
    workbench = open_workbench(suite_of(results), store=store, device=extras.device, progress=progress)
    if extras.share is not None:
        found.add(recompute(results, extras.share, workbench, seed=extras.seed))
    if extras.images is not None and not found.differences:
        found.add(verify_images(results, extras.images, workbench))
    elif extras.images is not None:
        found.notes.append("the images were not judged: what was measured is not what the tables say")


def store_of(folder: Path, named: Path | None) -> Path | None:
    """Returns the store of a results folder: the named one, else that beside the folder, else results/.store; None without any.

    Raises:
        HarnessError: if the one that is named is no folder.
    """
    from harness.running.workspace import DEFAULT_RESULTS, STORE_FOLDER

    if named is not None and not named.is_dir():
        raise HarnessError(f"--store {named}: expected the folder of a store, found {'a file' if named.exists() else 'nothing'}")
    usual = (folder.parent / STORE_FOLDER, DEFAULT_RESULTS / STORE_FOLDER)
    return named or next((place for place in usual if place.is_dir()), None)


def show(found: "Findings") -> None:
    """Prints what a verification found.

    Raises:
        typer.Exit: with 1 if anything differs, with 2 if too little could be checked.
    """
    _print(difference.line for difference in found.differences[:MOST_LINES])
    if (more := len(found.differences) - MOST_LINES) > 0:
        _print([f"and {counted(more, 'difference')} more"])
    _print(f"not checked: {line}" for line in found.unchecked)
    _print(found.notes)
    checked = ", ".join(f"{name} {count}" for name, count in found.compared.items() if count)
    _print([f"compared: {checked or 'nothing'}; {counted(len(found.differences), 'difference')}"])
    if found.differences:
        raise typer.Exit(CHECK_FAILED)
    if not found.conclusive:
        _print(["cannot be verified: see what was not checked"])
        raise typer.Exit(BAD_INPUT)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        console.stdout.print(printable(line), markup=False)


def _verify_suite(suite: str, overrides: list[str] | None, store: Path | None) -> None:
    from harness.cli.inspection import damaged_rows, open_store, plan_suite, step_rows
    from harness.suites.files import load_suite

    loaded, opened = load_suite(suite, overrides or ()), open_store(store)
    with naming(f"{suite}: ", SuiteError, DataError, ModelError):
        planned = plan_suite(loaded)
    damaged = damaged_rows(planned, opened)
    for row in damaged:
        console.stdout.print("\t".join(row), markup=False)
    finished = sum(row[-1] == "finished" for row in step_rows(planned, opened))
    console.stdout.print(f"{finished} of {len(planned.steps)} steps finished, {len(damaged)} damaged files")
    if damaged or not finished:
        raise typer.Exit(CHECK_FAILED)
