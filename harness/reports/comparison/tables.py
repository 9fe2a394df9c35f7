"""The tables of a comparison as texts, for a terminal and a page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from harness.reports.compare import Comparison
    from harness.reports.comparison.numbers import ChangedClass, ChangedImage

MOST_ROWS = 30
"""Classes and images that are shown; `--json` has all."""


class TextTable(NamedTuple):
    """A table of texts."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: frozenset[int] = frozenset()
    """Columns of numbers."""


def comparison_tables(comparison: "Comparison") -> list[TextTable]:
    """Returns the tables of a comparison that have rows: conditions, areas, classes, images, and what was not compared."""
    tables = [_conditions(comparison), _areas(comparison), _classes(comparison), _images(comparison), _apart(comparison)]
    return [table for table in tables if table.rows]


def _conditions(comparison: "Comparison") -> TextTable:
    rows = [
        (
            it.model,
            it.condition,
            _examples(it.n, it.only_a, it.only_b),
            _percent(it.accuracy_a),
            _percent(it.accuracy_b),
            str(it.lost),
            str(it.gained),
            _points(it.difference),
            f"{_points(it.difference_low)} to {_points(it.difference_high)}",
            f"{it.p_value:.2g}",
            f"{it.p_corrected:.2g}",
            str(it.outcome),
            it.changed_training,
        )
        for it in comparison.conditions
    ]
    columns = ("model", "condition", "n", "A %", "B %", "only A right", "only B right", "difference", "95 % interval")
    more = ("p", "p corrected", "outcome", "training")
    return TextTable("Conditions", (*columns, *more), rows, frozenset(range(2, 11)))


def _areas(comparison: "Comparison") -> TextTable:
    rows = [
        (
            it.model,
            f"{it.attack} {it.norm}",
            it.budgets,
            str(it.n),
            _percent(it.area_a),
            _percent(it.area_b),
            _points(it.difference),
            f"{_points(it.difference_low)} to {_points(it.difference_high)}",
        )
        for it in comparison.areas
    ]
    columns = ("model", "attack", "budgets", "n", "area A %", "area B %", "difference", "95 % interval")
    return TextTable("Area under the robustness curve", columns, rows, frozenset(range(3, 8)))


def _classes(comparison: "Comparison") -> TextTable:
    most = sorted(comparison.classes, key=lambda it: (-abs(it.lost - it.gained), -it.lost))
    rows = [_class(it) for it in most[:MOST_ROWS]]
    columns = ("model", "condition", "class", "n", "A %", "B %", "only A right", "only B right")
    return TextTable(_of("Classes that changed", rows, most), columns, rows, frozenset(range(3, 8)))


def _class(it: "ChangedClass") -> tuple[str, ...]:
    numbers = (str(it.n), _percent(it.accuracy_a), _percent(it.accuracy_b), str(it.lost), str(it.gained))
    return (it.model, it.condition, it.class_name, *numbers)


def _images(comparison: "Comparison") -> TextTable:
    """Returns the images that changed under most conditions, losses first."""
    by_image: dict[tuple[str, str], list[ChangedImage]] = {}
    for it in comparison.images:
        by_image.setdefault((it.example, it.class_name), []).append(it)
    most = sorted(by_image.items(), key=lambda item: -len(item[1]))
    rows = [(*image, _where(found, "lost"), _where(found, "gained")) for image, found in most[:MOST_ROWS]]
    return TextTable(_of("Images that changed", rows, most), ("image", "class", "only A right", "only B right"), rows)


def _where(found: "Sequence[ChangedImage]", change: str) -> str:
    own = [it for it in found if it.change == change]
    first = [f"{it.model}, {it.condition}: {it.prediction_a} -> {it.prediction_b}" for it in own[:2]]
    more = [f"and {len(own) - 2} more"] if len(own) > 2 else []
    return "; ".join([*first, *more])


def _apart(comparison: "Comparison") -> TextTable:
    rows = [tuple(it) for it in comparison.apart[:MOST_ROWS]]
    return TextTable(_of("Not compared", rows, comparison.apart), ("model", "condition", "why"), rows)


def _of(title: str, shown: Sequence[object], everything: Sequence[object]) -> str:
    return title if len(shown) == len(everything) else f"{title}: {len(shown)} of {len(everything)}"


def _examples(n: int, only_a: int, only_b: int) -> str:
    apart = [f"{count} only in {name}" for count, name in ((only_a, "A"), (only_b, "B")) if count]
    return f"{n} ({', '.join(apart)})" if apart else str(n)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"
