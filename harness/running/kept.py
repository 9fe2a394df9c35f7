"""Copies the attacked images that a suite keeps into the results folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.reports.files import staged
from harness.reports.names import cell_fields, unique_cell_names

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from harness.running.finished import FinishedRun
    from harness.steps.kept import KeptImages

FOLDER = "attacked"
"""Subfolder of the results that the files lie in."""
ENDINGS = (".h5", ".png", ".json")
"""The images, a picture of some of them, and what that shows."""


def write_kept(run: FinishedRun, folder: Path) -> None:
    """Copies the files of every kept cell into `attacked/<cell>.*`; those of cells that are no longer kept are removed.

    Args:
        run: The run.
        folder: The results folder.

    Raises:
        HarnessError: if the folder cannot be written.
    """
    if not run.plan.kept and not (folder / FOLDER).is_dir():
        return
    with staged(folder, owned={FOLDER: ENDINGS}) as staging:
        (staging / FOLDER).mkdir()
        for name, step, place in kept_files(run.plan):
            if run.finished(step):
                file = run.context.folder(step) / step.file(step.budgets[place])
                for path in (file.with_suffix(ending) for ending in ENDINGS):
                    if path.is_file():  # there is no picture where no example could be attacked
                        shutil.copyfile(path, staging / FOLDER / f"{name}{path.suffix}")


def kept_files(plan: Plan) -> Iterator[tuple[str, KeptImages, int]]:
    """Yields each kept cell: its name as a file, the step that keeps its images, and its place among the step's budgets."""
    names = unique_cell_names([{**cell_fields(cell.cell), "digest": cell.digest} for cell in plan.cells])
    for step in plan.kept:
        for place, digest in enumerate(step.digests):
            yield names[digest], step, place
