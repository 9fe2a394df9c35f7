"""Computes a share of the cells anew, with the stored models and without the stored outcomes, and compares the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.errors import HarnessError
from harness.records import FINISHED, Status
from harness.reports.tables.scores import ScoredCell, cell_row, scored
from harness.reports.tables.write import cells_of_rows
from harness.running.finished import result_of
from harness.running.verification.comparison import Row, as_text, compare, read_text_table
from harness.running.verification.findings import Difference, Findings
from harness.running.verification.forms import FORMS, cell_label
from harness.running.workspace import Workbench
from harness.storage.provenance import describe_host
from harness.storage.store import Store
from harness.system.messages import counted
from harness.system.seeds import seed_of

if TYPE_CHECKING:
    from harness.images import ImageSplit
    from harness.planning.plan import PlannedCell
    from harness.records import CellResult
    from harness.reports.load import Results
    from harness.steps.base import Step
    from harness.steps.judgement import Judgement

MACHINE = ("device", "threads", "platform", "python", "packages", "evaluation")
"""What must be the same for numbers to be the same to the last digit: `harness.storage.provenance.describe_host` has these."""
LEAST_SHARE = 0.01
"""Share of a cell's examples, at least one, that may end otherwise on another machine: rounding decides the examples next to a
boundary, and an attack's path to them."""
SHARES = frozenset({"accuracy", "clean_accuracy", "robust_accuracy"})
"""Columns that are shares of a cell's examples."""
SLACK = 1e-6
"""Of a number of examples, for rounding."""
OF_THE_RUN = frozenset({"seconds", "peak_memory_mb", "verdict", "verdict_reasons", "status", "reason"})
"""Columns that are another run's own, or follow from all cells together."""


def recompute(results: Results, share: float, workbench: Workbench, *, seed: int = 0) -> Findings:
    """Computes some cells of a results folder anew, and returns where their numbers differ.

    The cells are drawn by the seed; a step that fills several cells is computed whole, and all of them are compared. Models are
    taken from the store, where they were trained once; everything that was measured on them is measured again, in a store of its
    own. On the machine that measured first, with as many threads and the same libraries, every number must be the same to the
    last digit. Elsewhere up to one example in a hundred, or one, may end otherwise.

    Args:
        results: The results folder.
        share: Share of the finished cells, in (0, 1]; at least one is drawn.
        workbench: The plan of the folder's suite, with the store that holds its models.
        seed: Draws the cells.

    Raises:
        HarnessError: if the plan has other cells than the folder, a model is not in the store, or a step fails.
    """
    if not 0 < share <= 1:
        raise HarnessError(f"--recompute: expected a share above 0 and at most 1, got {share:g}")
    status = dict(zip(results.cells["digest"], results.cells["status"], strict=True))
    known = [cell for cell in workbench.plan.cells if cell.step is not None and status.get(cell.digest) in FINISHED]
    if not known:
        raise HarnessError(f"{results.folder}: expected cells that this version plans, found none")
    count = max(1, round(share * len(known)))
    chosen = np.random.default_rng(seed_of(seed, "recompute")).choice(len(known), size=count, replace=False)
    steps = {
        cell.step.digest: cell.step.undivided for cell in (known[place] for place in sorted(chosen)) if cell.step is not None
    }
    compared = [cell for cell in known if cell.step is not None and cell.step.digest in steps]
    found = Findings(notes=[f"{counted(len(compared), 'cell')} computed anew, {count} of {len(known)} drawn"])
    if lacking := sum(state in FINISHED for state in status.values()) - len(known):
        found.unchecked.append(f"recompute: {counted(lacking, 'cell')} that this version plans otherwise")
    with TemporaryDirectory(prefix="harness-verify-") as folder:
        anew = replace(workbench.context, store=_with_models(steps.values(), workbench, Path(folder)))
        if problems := Workbench(workbench.plan, anew).finish(*steps.values()):
            raise HarnessError(f"recompute: {problems[0]}")
        for step in steps.values():
            cells = [cell for cell in compared if cell.step is not None and cell.step.digest == step.digest]
            found.add(_compare_step(results, step, cells, workbench, Workbench(workbench.plan, anew)))
    return found


def _with_models(steps: Iterable[Step], workbench: Workbench, folder: Path) -> Store:
    """Returns a new store that has what the steps need, as links, and nothing that they made."""
    for step in steps:
        for needed in step.inputs.values():
            _link(needed, workbench, folder / needed.KIND / needed.digest)
    return Store(folder)


def _link(needed: Step, workbench: Workbench, place: Path) -> None:
    store, entry = workbench.context.store, workbench.context.entry(needed)
    if entry is None or store.damaged_files(entry):
        state = "none" if entry is None else "a damaged one"
        raise HarnessError(f"recompute: expected the finished step {needed.title} in {store.root}, found {state}")
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink():
        place.symlink_to(entry.path.resolve(), target_is_directory=True)


def _compare_step(
    results: Results, step: Judgement, cells: Sequence[PlannedCell], workbench: Workbench, anew: Workbench
) -> Findings:
    """Compares the cells of one step with what the folder says of them."""
    outcome, names = step.outcome(anew.context), workbench.context.data.class_names
    made = _machine_of(results, step, workbench)
    here = describe_host(anew.context.device)
    other = [name for name in MACHINE if not _is_same(made.get(name), here.get(name))]
    found, pairs = Findings(), []
    for cell in cells:
        result = result_of(cell, outcome, Status.DONE)
        if (numbers := scored(result, names)) is not None:
            pairs.append((result, numbers))
    found.differences += _names_that_differ(results, step.judged(anew.context), [result for result, _ in pairs])
    differing = {result.digest: _examples_that_differ(results, numbers) for result, numbers in pairs}
    written = read_text_table(results.folder / "cells.csv")
    written = written[written["digest"].isin([result.digest for result, _ in pairs])].reset_index(drop=True)
    table = as_text(cells_of_rows([cell_row(*pair) for pair in pairs]))
    rows = compare("cells.csv, computed anew", written, table, FORMS["cells"], ignore=_of_the_run, tolerance=0.0)
    found.compared = rows.compared
    found.compared["examples computed anew"] = sum(len(numbers.after.labels) for _, numbers in pairs)
    found.differences += [it for it in rows.differences if not other or not _is_close(it, pairs, differing)]
    for result, numbers in pairs:
        n, changed = len(numbers.after.labels), differing[result.digest]
        if changed > (max(1, LEAST_SHARE * n) if other else 0):
            row = cell_label(result.cell)
            found.differences.append(
                Difference("samples.parquet, computed anew", row, "examples", f"{changed} of {n} others", "the same")
            )
        elif changed:
            found.notes.append(f"{cell_label(result.cell)}: {changed} of {n} examples end otherwise on this machine")
    if other:
        found.notes.append(
            f"{step.title}: measured elsewhere ({', '.join(other)} differ), so that small differences count as none"
        )
    return found


def _is_same(made: Any, here: Any) -> bool:
    """Returns whether a machine is described as this one is; a run says more of its evaluation, such as the inference form."""
    if isinstance(made, Mapping) and isinstance(here, Mapping):
        return all(made.get(name) == value for name, value in here.items())
    return bool(made == here)


def _names_that_differ(results: Results, examples: ImageSplit, cells: Iterable[CellResult]) -> Iterator[Difference]:
    """Yields the cells whose examples in samples.parquet are not those of the data, by name and content."""
    for cell in cells if results.has_samples else ():
        own = results.samples_of(cell.digest)
        for column, wanted in (("example_id", examples.ids), ("content_hash", examples.hashes)):
            if own[column].astype(str).tolist() != list(wanted):
                yield Difference(
                    "samples.parquet", cell_label(cell.cell), column, "other examples", "those of the data, in their order"
                )


def _machine_of(results: Results, step: Judgement, workbench: Workbench) -> Mapping[str, Any]:
    """Returns where a step was computed first: as its entry in the store says, else as the run's provenance does."""
    entry = workbench.context.entry(step)
    return results.provenance if entry is None else entry.meta


def _examples_that_differ(results: Results, numbers: ScoredCell) -> int:
    """Returns the number of examples with another prediction or success than samples.parquet says; 0 without that table."""
    own = results.samples_of(numbers.result.digest) if results.has_samples else pd.DataFrame()
    if len(own) != len(numbers.after.labels):
        return 0 if own.empty else len(numbers.after.labels)
    changed = own["prediction"].to_numpy() != numbers.after.predicted
    if numbers.succeeded is not None:
        changed |= own["fooled"].to_numpy(bool) != numbers.succeeded
    return int(changed.sum())


def _is_close(difference: Difference, pairs: Sequence[tuple[CellResult, ScoredCell]], differing: Mapping[str, int]) -> bool:
    """Returns whether a number of another machine differs by no more than examples that may end otherwise explain.

    Of a share that is tested on the number itself, as a folder without samples.parquet does not tell which examples differ. An
    example may end otherwise when clean, and another one under attack.
    """
    for result, numbers in pairs:
        if cell_label(result.cell) == difference.row:
            n = len(numbers.after.labels)
            most = max(1, LEAST_SHARE * n)
            explained = difference.column not in SHARES or _distance(difference) * n <= 2 * most + SLACK
            return explained and differing[result.digest] <= most
    return False


def _distance(difference: Difference) -> float:
    """Returns how far two numbers are from each other; infinity where one of them is none."""
    try:
        found = abs(float(difference.written) - float(difference.expected))
    except ValueError:
        return math.inf
    return math.inf if math.isnan(found) else found


def _of_the_run(row: Row, column: str, _: str) -> bool:
    return column in OF_THE_RUN
