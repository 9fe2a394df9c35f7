"""Derives the tables of a results folder anew from the store and the examples, and compares them entry by entry."""

import platform
from collections.abc import Sequence
from dataclasses import replace

from harness.conditions import CLEAN
from harness.evaluation.sanity import judge
from harness.records import FINISHED, RunRecord
from harness.reports.load import Results
from harness.running.verification.comparison import OTHER_MACHINE
from harness.running.verification.conclusions import verify_conclusions
from harness.running.verification.findings import Difference, Findings
from harness.running.verification.forms import cell_label
from harness.running.verification.identities import Identities
from harness.running.verification.stored import StoredSteps
from harness.running.verification.tables import TableCheck
from harness.running.verification.witnesses import Witnessed, witnessed
from harness.steps.transfer import Transfer
from harness.storage.provenance import git_state, package_versions, processor_name
from harness.storage.store import Store

ROUNDING = ("numpy", "pandas", "scipy")
"""Packages on which the last digit of a number may depend."""


def verify_tables(results: Results, store: Store | None) -> Findings:
    """Returns what does not follow from the witnesses in cells.csv, sweep.csv, leaderboard.csv and the tables that go with them.

    The witnesses of a cell are the outcome that its step left in the store, and its examples in samples.parquet; these two are
    compared with each other as well. Where the store lacks the outcome, the examples alone are the witness; where both are
    missing, the confusion matrix is.

    Args:
        results: The results folder.
        store: The finished steps, or None where there is no store.

    Raises:
        HarnessError: if a table cannot be read, or its entries are of another type than a run writes.
    """
    identities = Identities(results)
    stored = None if store is None else StoredSteps(store, results.provenance)
    known = witnessed(results, identities, stored)
    record, judged = _record(results, known, stored)
    tolerance = _tolerance(results)
    found = _of_store(known, stored)
    found.add(_of_grid(identities))
    if (commit := results.provenance.get("git", {}).get("commit")) != git_state()["commit"] and commit:
        found.notes.append(f"made by the commit {commit[:12]}, not by this one: rules such as the ranking may have changed since")
    if tolerance:
        found.notes.append(f"made on another machine or with other libraries: numbers may differ by {tolerance:g} of their size")
    tables = TableCheck(results, record, known, judged=judged, tolerance=tolerance)
    found.add(tables.findings())
    with tables.witnessed() as derived:
        found.add(verify_conclusions(results, derived, identities.expectations, tolerance=tolerance))
    return found


def _of_grid(identities: Identities) -> Findings:
    """Returns which cells of the suite have no row: dropped rows hide their numbers."""
    if identities.obstacle:
        said = f"whether rows are missing, as the suite in provenance.json cannot be read here: {identities.obstacle}"
        return Findings(unchecked=[said])
    missing = [Difference("cells.csv", cell_label(cell), "row", "none", "a row of the suite") for cell in identities.missing]
    return Findings(differences=missing)


def _of_store(known: Sequence[Witnessed], stored: StoredSteps | None) -> Findings:
    """Returns what the store itself says: damage, and digests that no step of it has."""
    finished = [it for it in known if it.result.status in FINISHED]
    lacking = [it for it in finished if it.source != "store"]
    found = Findings(
        notes=[f"{len(finished) - len(lacking)} of {len(finished)} cells with numbers have their outcome in the store"]
    )
    if stored is None:
        return found
    for entry, name in stored.damaged:
        found.differences.append(
            Difference("store", f"{entry.kind}/{entry.digest[:12]}", name, "other content", "its recorded hash")
        )
    if not stored.missing:
        found.differences += [
            Difference("cells.csv", cell_label(it.result.cell), "digest", str(it.row["digest"])[:12], "that of a stored step")
            for it in lacking
        ]
    return found


def _record(results: Results, known: Sequence[Witnessed], stored: StoredSteps | None) -> tuple[RunRecord, bool]:
    """Returns the record of the run as the witnesses have it, and whether its attack checks are derived, not taken over."""
    cells = [it.result for it in known]
    whole = all(it.source == "store" for it in known if it.result.status in FINISHED)
    transferred = stored is not None and not any(title.startswith(f"{Transfer.KIND} ") for title in stored.missing)
    judged = whole and transferred
    if stored is not None and judged:
        plain = [replace(cell, verdict=None, verdict_reasons=()) for cell in cells]
        derived = judge(plain, transfers=stored.transfers(plain))
        cells = [cell if it.source == "store" else it.result for it, cell in zip(known, derived, strict=True)]
    names = tuple(map(str, results.provenance.get("class_names", ())))
    ids, hashes = next(((cell.example_ids, cell.example_hashes) for cell in cells if cell.cell.condition == CLEAN), (None, None))
    suite, provenance = results.provenance["suite"], results.provenance
    rows = stored.transfer_rows(cells) if stored is not None and transferred else ()
    record = RunRecord(suite, tuple(cells), names, ids or (), hashes or (), histories={}, transfers=rows, provenance=provenance)
    return record, judged


def _tolerance(results: Results) -> float:
    """Returns the largest relative difference of numbers that counts as none: 0 on the machine that wrote them."""
    made, here = results.provenance, package_versions()
    packages, device = made.get("packages", {}), str(made.get("device", ""))
    same = all(packages.get(name) == here[name] for name in ROUNDING) and made.get("python") == platform.python_version()
    on_same_processor = not device.startswith("cpu") or device == processor_name()
    return 0.0 if same and on_same_processor and made.get("platform") == platform.platform() else OTHER_MACHINE
