"""Writes requirements.csv, decision.json, decision.md and junit.xml of a results folder."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from harness.records import SCHEMA_VERSION
from harness.reports.decision.decision import Decision, ModelDecision, Verdict, decision_of
from harness.reports.decision.junit import junit_xml
from harness.reports.decision.requirements import requirements_table
from harness.reports.files import staged
from harness.reports.load import Results, reading_tables
from harness.reports.markdown import escaped

TABLE, JSON, CARD, JUNIT = "requirements.csv", "decision.json", "decision.md", "junit.xml"


def write_decision(results: Results) -> Decision:
    """Judges the requirements of a results folder by its tables, and writes what follows from them.

    requirements.csv is there only if the suite has requirements.

    Args:
        results: The tables of the results folder.

    Raises:
        HarnessError: if a table is missing or damaged, or the folder cannot be written.
    """
    folder = results.folder
    with reading_tables(folder):
        decision = decision_of(results)
    texts = {
        JSON: json.dumps(decision_json(decision), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        CARD: model_card(decision),
        JUNIT: junit_xml(decision.suite, decision.requirements),
    }
    if decision.requirements:
        texts[TABLE] = requirements_table(decision.requirements).to_csv(index=False, lineterminator="\n")
    with staged(folder, owned={}) as staging:
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")
    if not decision.requirements:
        (folder / TABLE).unlink(missing_ok=True)
    return decision


def decision_json(decision: Decision) -> dict[str, Any]:
    """Returns the decision as plain JSON values."""
    fields = {"schema_version": SCHEMA_VERSION, **asdict(decision), "all_met": decision.all_met}
    plain: dict[str, Any] = _plain(fields)
    return plain


def _plain(value: Any) -> Any:
    """Returns a value with None for numbers that JSON has not."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decision_lines(decision: Decision) -> Iterator[str]:
    """Yields one line a model: whether it may ship, and why."""
    for model in decision.models:
        poisoned = " [POISONED]" if model.poisoned else ""
        yield f"{model.verdict}: {model.model}{poisoned}: {model.why}"


def model_card(decision: Decision) -> str:
    """Returns the section on robustness of a model card, in Markdown."""
    lines = [f"# Robustness: {escaped(decision.suite)}", "", *(f"- {escaped(line)}" for line in decision_lines(decision)), ""]
    lines += ["## Threat model", "", escaped(decision.threat_model), ""]
    for model in decision.models:
        lines += list(_card_of(model))
    lines += ["## Not assessed", "", *(f"- {escaped(text)}" for text in decision.not_assessed), ""]
    return "\n".join(lines)


def _card_of(model: ModelDecision) -> Iterator[str]:
    yield from (f"## {escaped(model.model)}: {model.verdict}", "", escaped(model.why), "")
    if model.poisoned:
        yield from ("**Poisoned**: not to be used outside the measurement.", "")
    for file in model.files:
        yield f"- File: `{file.name}`, {file.what}, sha256 `{file.sha256}`"
    for sentence in model.strength:
        yield f"- Attacks: {escaped(sentence)}"
    for it in model.worst_classes:
        share = f"{it.metric} {100 * it.value:.1f} % of {it.examples} examples"
        yield f"- Worst class on {escaped(it.condition)}: {escaped(it.name)}, {share}"
    yield from (f"- Cost: {model.cost}", "")
    if model.requirements:
        yield from ("| outcome | requirement | found | interval | why |", "|---|---|---|---|---|")
    for row in model.requirements:
        found = "" if row.found is None else f"{row.found:.3f}"
        interval = "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
        yield f"| {row.outcome} | {escaped(row.text)} | {found} | {interval} | {escaped(row.reason)} |"
    if model.verdict is not Verdict.NONE:
        yield ""
