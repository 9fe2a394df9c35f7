"""Plans and stored steps as rows for the command line."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, StoreError
from harness.images import ImageData
from harness.planning.plan import Plan, plan_of
from harness.running.workspace import DEFAULT_RESULTS, STORE_FOLDER
from harness.storage.store import Store
from harness.suites.suite import Suite

SHORT = 12

logger = logging.getLogger(__name__)


def plan_rows(plan: Plan) -> list[tuple[str, ...]]:
    """Returns one row a cell: model, condition, attack, norm, eps, short digest of its step, why it is skipped."""
    return [
        (
            cell.cell.model,
            cell.cell.condition,
            cell.cell.attack,
            cell.cell.norm or "",
            "" if cell.cell.eps is None else str(cell.cell.eps),
            "" if cell.step is None else cell.step.digest[:SHORT],
            "" if cell.skip is None else f"skipped: {cell.skip}",
        )
        for cell in plan.cells
    ]


def step_rows(plan: Plan, store: Store) -> list[tuple[str, ...]]:
    """Returns one row a step: kind, title, short digest, whether it is finished."""
    return [
        (step.KIND, step.title, step.digest[:SHORT], "missing" if store.get(step.KIND, step.digest) is None else "finished")
        for step in plan.for_store(store).steps
    ]


def kept_rows(plan: Plan, data: ImageData) -> list[tuple[str, ...]]:
    """Returns one row a cell whose attacked images are kept: model, attack, eps, number of images, largest size in MB."""
    examples = plan.examples.of(data)
    return [
        (step.model_name, step.sweep.label, str(eps), str(len(examples)), f"{step.most_bytes(examples) / 1e6:.1f}")
        for step in plan.kept
        for eps in step.budgets
    ]


def damaged_rows(plan: Plan, store: Store) -> list[tuple[str, str, str]]:
    """Returns one row a damaged file of the plan's finished steps: kind, digest, file."""
    entries = [entry for step in plan.steps if (entry := store.get(step.KIND, step.digest)) is not None]
    return [(entry.kind, entry.digest, file) for entry in entries for file in store.damaged_files(entry)]


def open_store(folder: Path | None) -> Store:
    """Returns the store at a folder, by default results/.store."""
    return Store(folder or DEFAULT_RESULTS / STORE_FOLDER)


def plan_suite(suite: Suite) -> Plan:
    """Returns the plan of a suite on its loaded data."""
    return plan_of(suite, suite.dataset.load())


def describe_digest(digest: str, store: Store) -> dict[str, Any]:
    """Returns the record of a step, or the row of a cell in results/ or in the results beside the store.

    Raises:
        StoreError: if nothing, or more than one thing, has a digest that begins so.
    """
    folders = list(dict.fromkeys([store.root.parent, DEFAULT_RESULTS]))
    found: list[dict[str, Any]] = [entry.meta for entry in store.find(digest)] or _cells_of(digest, folders)
    if len(found) != 1:
        what = "nothing" if not found else f"{len(found)} of them"
        raise StoreError(f"digest {digest!r}: expected one step or cell in {' or '.join(map(str, folders))}, found {what}")
    return found[0]


def _cells_of(digest: str, folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Returns the rows of the cells whose digest begins so, each once, however many results folders hold it."""
    found: dict[str, dict[str, Any]] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*/cells.csv"))):
        for row in _rows_of(path.parent, digest):
            found.setdefault(row["digest"], row)
    return list(found.values())


def _rows_of(results: Path, digest: str) -> list[dict[str, Any]]:
    from harness.reports.load import load_results
    from harness.reports.names import is_missing

    try:
        cells = load_results(results).cells
    except HarnessError as error:
        logger.warning("%s; its cells are left out", error)
        return []
    rows = cells[cells["digest"].astype(str).str.startswith(digest)].to_dict(orient="records")
    return [{str(key): None if is_missing(value) else value for key, value in row.items()} for row in rows]
