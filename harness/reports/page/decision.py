"""The first screen of the page: what may ship, and why."""

from dataclasses import dataclass

from harness.reports.decision.decision import Decision, JudgedFile, ModelDecision, Verdict
from harness.reports.decision.requirements import Finding, Requirement
from harness.reports.page.tables import PageEntry, PageTable, number, rate, text

SHORT_HASH = 12
"""Digits of a hash that a line shows."""
STYLES = {
    Verdict.SHIP: "pass",
    Verdict.DO_NOT_SHIP: "invalid",
    Verdict.NOT_SHOWN: "suspect",
    Verdict.NONE: "skipped",
    Finding.MET: "pass",
    Finding.NOT_MET: "invalid",
    Finding.NOT_SHOWN: "suspect",
}


@dataclass(frozen=True)
class Line:
    """One model's line."""

    model: str
    verdict: str
    style: str
    why: str
    poisoned: bool
    rests_on: str
    """The file by the start of its hash, the worst classes, the cost."""
    details: tuple[str, ...]
    """Files with their whole hashes, and the strength of the attacks at each budget."""


def decision_line(model: ModelDecision) -> Line:
    """Returns the line of a model: the verdict, why, which file it is, its worst class and its cost."""
    worst = [f"worst class on {it.condition}: {it.name}, {100 * it.value:.1f} % of {it.examples}" for it in model.worst_classes]
    files = [f"{file.name} {file.sha256[:SHORT_HASH]}" for file in model.files]
    return Line(
        model=model.model,
        verdict=model.verdict,
        style=STYLES[model.verdict],
        why=model.why,
        poisoned=model.poisoned,
        rests_on=" · ".join((*files, *worst, model.cost)),
        details=(*map(_file_text, model.files), *model.strength),
    )


def requirements_table(decision: Decision) -> PageTable:
    """Returns the requirements with their intervals, and why they are not met or not shown."""
    rows = tuple(_row(it) for it in decision.requirements)
    return PageTable("Requirements", ("Requirement", "Outcome", "Found", "Bound", "More examples"), rows, frozenset({2, 3, 4}))


def _row(it: Requirement) -> tuple[PageEntry, ...]:
    return (
        text(it.text),
        PageEntry(str(it.outcome), it.reason, badge=STYLES[it.outcome]),
        rate(it.found, it.low, it.high),
        rate(it.bound),
        number(it.needed_examples),
    )


def _file_text(file: JudgedFile) -> str:
    return f"{file.name} ({file.what}), sha256 {file.sha256}"
