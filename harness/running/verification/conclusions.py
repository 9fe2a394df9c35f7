"""Derives what a run concludes from its tables, and compares it: expectations, requirements, and the decision."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import HarnessError, first_line
from harness.reports.decision.decision import MODELS_FOLDER, Decision, JudgedFile, decision_of
from harness.reports.decision.files import CARD, JSON, JUNIT, TABLE, decision_json, model_card
from harness.reports.decision.junit import junit_xml
from harness.reports.decision.requirements import requirements_table
from harness.reports.load import Results
from harness.reports.tables.poisons import POISON_COLUMNS
from harness.reports.tables.write import expectations_table
from harness.running.expectations import judge_expectations
from harness.running.verification.comparison import Row, as_text, compare, read_text_table
from harness.running.verification.findings import Difference, Findings
from harness.running.verification.forms import FORMS

if TYPE_CHECKING:
    from harness.suites.entries import ExpectationEntry

EXPECTATIONS = "expectations.csv"


def verify_conclusions(
    results: Results, derived: Results, expected: Sequence[ExpectationEntry] | None, *, tolerance: float
) -> Findings:
    """Returns what in expectations.csv, requirements.csv, decision.json, decision.md and junit.xml does not follow from tables.

    Args:
        results: The results folder.
        derived: One with the tables that the witnesses give; the folder itself where they do not give all.
        expected: The suite's expectations; None where the suite cannot be read here.
        tolerance: Largest relative difference of two numbers that counts as none.

    Raises:
        HarnessError: if a table cannot be read.
    """
    folder = results.folder
    found = _of_expectations(folder, derived, expected, tolerance)
    if not (folder / JSON).is_file():
        found.unchecked.append(f"{JSON}: the folder has none")
        return found
    written = _read_decision(folder / JSON)
    decision, gone = _decision(folder, derived, written)
    found.unchecked += [f"{JSON}: {name}: the file is not here, so its hash is taken as written" for name in gone]
    found.add(_of_leaves(written, decision_json(decision), tolerance=tolerance))
    if decision.requirements:
        found.add(_of_table(folder / TABLE, requirements_table(decision.requirements), tolerance))
    for name, text in {CARD: model_card(decision), JUNIT: junit_xml(decision.suite, decision.requirements)}.items():
        found.add(_of_text(folder / name, text))
    return found


def _of_expectations(folder: Path, derived: Results, expected: Sequence[ExpectationEntry] | None, tolerance: float) -> Findings:
    if expected is None:
        return Findings(unchecked=[f"{EXPECTATIONS}: the suite in provenance.json cannot be read here"])
    poisons = pd.DataFrame(columns=list(POISON_COLUMNS)) if derived.poisons.empty else derived.poisons
    judged = judge_expectations(expected, derived.cells, poisons)
    return _of_table(folder / EXPECTATIONS, expectations_table(judged), tolerance)


def _of_table(path: Path, table: pd.DataFrame, tolerance: float) -> Findings:
    if not path.is_file():
        return Findings(unchecked=[f"{path.name}: the folder has none"])
    form = FORMS[path.stem]
    return compare(path.name, read_text_table(path), as_text(table), form, ignore=_nothing, tolerance=tolerance)


def _nothing(_: Row, __: str, ___: str) -> bool:
    return False


def _read_decision(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HarnessError(f"{path}: expected the decision of a run, found {first_line(error)}") from error
    if not isinstance(found, dict):
        raise HarnessError(f"{path}: expected the decision of a run, found a {type(found).__name__}")
    return found


def _decision(folder: Path, derived: Results, written: Mapping[str, Any]) -> tuple[Decision, list[str]]:
    """Returns the decision, with the hashes of exported files that are not in the folder as they are written, and their names."""
    decision = decision_of(derived)
    gone = {str(model.get("model")): tuple(_not_here(folder, model)) for model in _mappings(written.get("models"))}
    models = []
    for model in decision.models:
        judged = [file for file in model.files if not file.name.startswith(f"{MODELS_FOLDER}/")]
        exported = sorted((*model.files[len(judged) :], *gone.get(model.model, ())), key=lambda file: file.name)
        models.append(replace(model, files=(*judged, *exported)))
    return replace(decision, models=tuple(models)), sorted({file.name for files in gone.values() for file in files})


def _not_here(folder: Path, model: Mapping[str, Any]) -> Iterator[JudgedFile]:
    for file in _mappings(model.get("files")):
        name = str(file.get("name"))
        if name.startswith(f"{MODELS_FOLDER}/") and not (folder / MODELS_FOLDER / Path(name).name).is_file():
            yield JudgedFile(name, str(file.get("sha256")), str(file.get("what")))


def _mappings(found: Any) -> list[Mapping[str, Any]]:
    return [it for it in found if isinstance(it, Mapping)] if isinstance(found, list) else []


def _of_leaves(written: Any, derived: Any, *, tolerance: float) -> Findings:
    """Compares decision.json value by value; a difference is named by where it stands: `models.0.verdict`."""
    left, right = (dict(_leaves(values, "")) for values in (written, json.loads(json.dumps(derived))))
    differing = [name for name in {**right, **left} if not _is_same(left.get(name), right.get(name), tolerance)]
    differences = [Difference(JSON, name, "value", _shown(left.get(name)), _shown(right.get(name))) for name in differing]
    return Findings(differences=differences, compared={JSON: len(right)})


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inside is None:
        yield name, value
        return
    for part, entry in inside:
        yield from _leaves(entry, f"{name}.{part}" if name else str(part))


def _is_same(left: Any, right: Any, tolerance: float) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right) <= tolerance * max(1.0, abs(right))
    return bool(left == right) and type(left) is type(right)


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def _of_text(path: Path, text: str) -> Findings:
    """Compares a text line by line."""
    if not path.is_file():
        return Findings(unchecked=[f"{path.name}: the folder has none"])
    wanted, written = text.splitlines(), path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = enumerate(zip_longest(written, wanted, fillvalue=""), start=1)
    differences = [
        Difference(path.name, f"line {number}", "text", left, right) for number, (left, right) in pairs if left != right
    ]
    return Findings(differences=differences, compared={path.name: len(wanted)})
