"""Two results folders compared example by example."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.records import SCHEMA_VERSION
from harness.reports.comparison.joining import Apart, Joined, joined_rows, named_condition
from harness.reports.comparison.numbers import (
    ChangedClass,
    ChangedImage,
    ComparedArea,
    ComparedCondition,
    Outcome,
    areas,
    changed_classes,
    changed_images,
    compared,
    pair_of,
    sweeps,
    worst_cases,
)
from harness.reports.comparison.side import Key, Row, Side
from harness.reports.load import Results, load_results, reading_tables
from harness.reports.names import is_missing

NOT_IN_WORST_CASE = "not in the worst case: other examples in common than under the attacks beside it"


@dataclass(frozen=True)
class Comparison:
    """What changed from run A to run B."""

    a: str
    """The folder of run A."""
    b: str
    conditions: tuple[ComparedCondition, ...]
    areas: tuple[ComparedArea, ...]
    classes: tuple[ChangedClass, ...]
    images: tuple[ChangedImage, ...]
    apart: tuple[Apart, ...]
    """What could not be compared, and why."""

    @property
    def losses(self) -> tuple[ComparedCondition, ...]:
        """The conditions under which B is significantly worse than A."""
        return tuple(it for it in self.conditions if it.outcome is Outcome.LOSS)

    @property
    def gains(self) -> tuple[ComparedCondition, ...]:
        """The conditions under which B is significantly better."""
        return tuple(it for it in self.conditions if it.outcome is Outcome.GAIN)

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        total = f"{len(self.conditions)} condition{'' if len(self.conditions) == 1 else 's'}"
        apart = f"; {len(self.apart)} more could not be compared" if self.apart else ""
        if not self.losses and not self.gains:
            return f"No significant change from A to B in {total}{apart}."
        parts = [_counted(found, word) for found, word in ((self.losses, "loses"), (self.gains, "gains")) if found]
        none = "" if self.losses else ", and loses significantly in none"
        return f"Of {total}, B {' and '.join(parts)}{none}{apart}."


def _counted(found: tuple[ComparedCondition, ...], word: str) -> str:
    most = max(found, key=lambda it: abs(it.difference))
    interval = f"{100 * most.difference_low:+.1f} to {100 * most.difference_high:+.1f}"
    where = f"{most.model} on {most.condition}: {100 * most.difference:+.1f} points ({interval}), p = {most.p_corrected:.2g}"
    return f"{word} significantly in {len(found)} (most: {where})"


def compare(a: Path, b: Path, *, models: Mapping[str, str] | None = None) -> Comparison:
    """Returns what changed from one results folder to another, on the examples that both were scored on.

    Examples are joined by their content and class, so their names and their order may differ. Rows are joined by model and
    condition; where two attacks of one name have other settings, they are not compared.

    Args:
        a: A results folder.
        b: Another one; differences are b minus a.
        models: Label of a model in a -> its label in b, where they differ.

    Raises:
        HarnessError: if one of them is no results folder or has no samples.parquet, or they have nothing in common.
    """
    return compared_results(load_results(a), load_results(b), models=models)


def compared_results(a: Results, b: Results, *, models: Mapping[str, str] | None = None) -> Comparison:
    """Returns the same of two folders that are open."""
    with reading_tables(b.folder), reading_tables(a.folder):
        return _compared(Side(a, models), Side(b), models or {})


def _compared(a: Side, b: Side, models: Mapping[str, str]) -> Comparison:
    known = list(map(str, b.results.cells["model"].unique()))
    for label in models.values():
        if label not in known:
            raise HarnessError(f"--models: {b.folder}: expected one of {', '.join(known)}, got {label!r}")
    found = list(joined_rows(a, b))
    rows = [it for it in found if isinstance(it, Joined)]
    apart = [it for it in found if isinstance(it, Apart)]
    if not rows:
        reasons = Counter(it.reason for it in apart)
        why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
        raise HarnessError(f"{b.folder}: expected a model and condition of {a.folder} on the same examples, found none ({why})")
    pairs, found_areas = [pair_of(it) for it in rows], []
    lacking = _lacking(a, b, rows)
    for sweep, others in sweeps(rows):
        worst = list(worst_cases(sweep, [*lacking, *((it.key, it.row_a) for it in others)]))
        apart += [Apart(it.model, named_condition(it.row_a), NOT_IN_WORST_CASE) for it in others]
        pairs += [pair for _, pair in worst]
        found_areas += list(areas(sweep, worst))
    return Comparison(
        a=str(a.folder),
        b=str(b.folder),
        conditions=tuple(compared(pairs)),
        areas=tuple(found_areas),
        classes=tuple(it for row in rows for it in changed_classes(row, a)),
        images=tuple(it for row in rows for it in changed_images(row, a, b)),
        apart=tuple(apart),
    )


def _lacking(a: Side, b: Side, rows: list[Joined]) -> list[tuple[Key, Row]]:
    """Returns the rows of either run of an attack with numbers that is not compared."""
    joined = {it.key for it in rows}
    return [
        (key, row)
        for side in (a, b)
        for key, row in side.rows.items()
        if key not in joined and row["condition"] == "attack" and not is_missing(row["accuracy"]) and not is_missing(row["eps"])
    ]


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Returns a comparison as plain JSON values."""
    tables = ("conditions", "areas", "classes", "images")
    return {
        "schema_version": SCHEMA_VERSION,
        "a": comparison.a,
        "b": comparison.b,
        "sentence": comparison.sentence,
        "losses": len(comparison.losses),
        "gains": len(comparison.gains),
        **{name: [asdict(row) for row in getattr(comparison, name)] for name in tables},
        "apart": [row._asdict() for row in comparison.apart],
    }
