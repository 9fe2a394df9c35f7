"""The numbers of a comparison: of each condition, of the area under each robustness curve, of each class and image."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import compress, groupby

import numpy as np

from harness.metrics import Flags, Interval
from harness.records import CUMULATIVE
from harness.reports.comparison.joining import Joined
from harness.reports.comparison.side import Key, Row, Side
from harness.reports.names import WORST_CASE, eps_text, is_targeted
from harness.reports.paired import SIGNIFICANCE, bootstrap_mean, holm, mcnemar, pair_counts, trapezoid_share


class Outcome(StrEnum):
    """What the corrected test says of a condition."""

    LOSS = "loss"
    GAIN = "gain"
    NO_CHANGE = "no change shown"


@dataclass(frozen=True)
class ComparedCondition:
    """One model under one condition in both runs, on the same examples. Differences are B minus A."""

    model: str
    condition: str
    n: int
    """Examples that both runs have."""
    only_a: int
    """Examples that only A has."""
    only_b: int
    accuracy_a: float
    """Share of the common examples on which the model is right; under an attack, robust accuracy."""
    accuracy_b: float
    lost: int
    """Examples on which only A is right."""
    gained: int
    """Examples on which only B is."""
    difference: float
    difference_low: float
    """Lower end of the bootstrap interval of the difference, 95 %."""
    difference_high: float
    p_value: float
    """Exact McNemar test, two-sided."""
    p_corrected: float
    """The same with Holm's correction over all conditions."""
    outcome: Outcome
    changed_training: str
    """In what the two trainings differ, as far as the tables say."""


@dataclass(frozen=True)
class ComparedArea:
    """The area under a robustness curve from budget 0 on, as a share of its largest budget. Differences are B minus A."""

    model: str
    attack: str
    norm: str
    budgets: str
    n: int
    area_a: float
    area_b: float
    difference: float
    difference_low: float
    difference_high: float


@dataclass(frozen=True)
class ChangedClass:
    """A class with an example that only one of the two runs is right on, under one condition."""

    model: str
    condition: str
    class_name: str
    n: int
    accuracy_a: float
    accuracy_b: float
    lost: int
    gained: int


@dataclass(frozen=True)
class ChangedImage:
    """An example that only one of the two runs is right on, under one condition."""

    model: str
    condition: str
    example: str
    class_name: str
    prediction_a: str
    prediction_b: str
    change: str
    """lost or gained."""


@dataclass(frozen=True)
class Pair:
    """On which of the same examples (n,) a model is right in each run."""

    model: str
    condition: str
    right_a: Flags
    right_b: Flags
    only_a: int = 0
    only_b: int = 0
    changed: str = ""


def pair_of(joined: Joined) -> Pair:
    """Returns on which examples a row and its counterpart are right."""
    return Pair(
        joined.model, joined.condition, joined.right_a, joined.right_b, joined.only_a, joined.only_b, changed=joined.changed
    )


def compared(pairs: Sequence[Pair]) -> list[ComparedCondition]:
    """Returns the numbers of each condition; the p-values are corrected over all of them."""
    rows = [_condition(pair) for pair in pairs]
    corrected = holm([row.p_value for row in rows])
    return [replace(row, p_corrected=p, outcome=_outcome(row.difference, p)) for row, p in zip(rows, corrected, strict=True)]


def _condition(pair: Pair) -> ComparedCondition:
    counts = pair_counts(pair.right_a, pair.right_b)
    low, high = _interval(pair.right_a, pair.right_b)
    p_value = mcnemar(counts)
    return ComparedCondition(
        model=pair.model,
        condition=pair.condition,
        n=len(pair.right_a),
        only_a=pair.only_a,
        only_b=pair.only_b,
        accuracy_a=float(pair.right_a.mean()),
        accuracy_b=float(pair.right_b.mean()),
        lost=int(counts.first),
        gained=int(counts.second),
        difference=(int(counts.second) - int(counts.first)) / len(pair.right_a),
        difference_low=low,
        difference_high=high,
        p_value=p_value,
        p_corrected=p_value,
        outcome=Outcome.NO_CHANGE,
        changed_training=pair.changed,
    )


def _interval(right_a: Flags, right_b: Flags) -> Interval:
    return bootstrap_mean(right_b.astype(float) - right_a.astype(float))


def _outcome(difference: float, p_value: float) -> Outcome:
    if p_value > SIGNIFICANCE or not difference:
        return Outcome.NO_CHANGE
    return Outcome.LOSS if difference < 0 else Outcome.GAIN


def sweeps(found: Iterable[Joined]) -> Iterator[tuple[list[Joined], list[Joined]]]:
    """Yields the attacked rows of each model and norm that have as many examples as the first of them, and the others."""
    attacked = [it for it in found if it.row_a["condition"] == "attack"]
    place = lambda it: (*map(str, it.key[:4]), str(it.row_a["norm"]))  # noqa: E731 - the key of a sort
    for _, group in groupby(sorted(attacked, key=place), key=place):
        rows = list(group)
        same = [len(it.samples_a) == len(rows[0].samples_a) for it in rows]
        yield list(compress(rows, same)), [it for it, is_same in zip(rows, same, strict=True) if not is_same]


def worst_cases(rows: Sequence[Joined], lacking: Sequence[tuple[Key, Row]]) -> Iterator[tuple[float, Pair]]:
    """Yields each budget with the worst case over several attacks on one model; none without an untargeted attack at it.

    Under the protocols nested and bisect it is taken over attacks at smaller budgets too, as in sweep.csv.

    Args:
        rows: The attacked rows of one model in one norm.
        lacking: Rows of attacks that cannot be compared: the worst case of the rest would be that of no run.
    """
    for eps in sorted({float(it.row_a["eps"]) for it in rows}):
        here = [it for it in rows if float(it.row_a["eps"]) == eps]
        members = [it for it in rows if _counts(it.row_a, eps)]
        several = len({it.row_a["attack"] for it in members}) > 1
        lacks = any(
            key[:4] == here[0].key[:4] and row["norm"] == here[0].row_a["norm"] and _counts(row, eps) for key, row in lacking
        )
        if not several or lacks or all(is_targeted(it.row_a) for it in here):
            continue
        first, label = here[0], f"{WORST_CASE} {eps_text(eps)} {here[0].row_a['norm']}"
        one, other = (np.logical_and.reduce([getattr(it, name) for it in members]) for name in ("right_a", "right_b"))
        yield eps, Pair(first.model, label, one, other, first.only_a, first.only_b, first.changed)


def _counts(row: Row, eps: float) -> bool:
    """Returns whether an attack counts in the worst case at a budget, see `harness.reports.tables.sweep`."""
    return float(row["eps"]) == eps or (float(row["eps"]) < eps and row["protocol"] in CUMULATIVE)


def areas(rows: Sequence[Joined], worst: Sequence[tuple[float, Pair]]) -> Iterator[ComparedArea]:
    """Yields the area under the curve of each attack on one model in one norm, and of the worst case over them."""
    if not rows:
        return
    clean = [samples["clean_correct"].to_numpy(bool) for samples in (rows[0].samples_a, rows[0].samples_b)]
    curves: dict[str, list[tuple[float, Flags, Flags]]] = {}
    for it in rows:
        curves.setdefault(_attack_of(it), []).append((float(it.row_a["eps"]), it.right_a, it.right_b))
    if worst:
        curves[WORST_CASE] = [(eps, pair.right_a, pair.right_b) for eps, pair in worst]
    for attack, points in curves.items():
        points.sort(key=lambda point: point[0])
        budgets = np.array([0.0, *(eps for eps, _, _ in points)])
        one, other = (
            trapezoid_share(budgets, np.array([start, *(point[place] for point in points)], dtype=float))
            for place, start in ((1, clean[0]), (2, clean[1]))
        )
        low, high = bootstrap_mean(other - one)
        yield ComparedArea(
            model=rows[0].model,
            attack=attack,
            norm=str(rows[0].row_a["norm"]),
            budgets=", ".join(eps_text(eps) for eps, _, _ in points),
            n=len(one),
            area_a=float(one.mean()),
            area_b=float(other.mean()),
            difference=float((other - one).mean()),
            difference_low=low,
            difference_high=high,
        )


def _attack_of(joined: Joined) -> str:
    target = f" towards {joined.row_a['target_class']}" if is_targeted(joined.row_a) else ""
    return f"{joined.row_a['attack']}{target}"


def changed_classes(joined: Joined, a: Side) -> Iterator[ChangedClass]:
    """Yields the classes with an example that changed under one condition."""
    labels, one, other = joined.samples_a["label"].to_numpy(), joined.right_a, joined.right_b
    for index in np.unique(labels[one != other]):
        own = labels == index
        yield ChangedClass(
            model=joined.model,
            condition=joined.condition,
            class_name=a.class_of([int(index)])[0],
            n=int(own.sum()),
            accuracy_a=float(one[own].mean()),
            accuracy_b=float(other[own].mean()),
            lost=int((one & ~other & own).sum()),
            gained=int((other & ~one & own).sum()),
        )


def changed_images(joined: Joined, a: Side, b: Side) -> Iterator[ChangedImage]:
    """Yields the examples that changed under one condition."""
    one, other = joined.right_a, joined.right_b
    changed = one != other
    frame = joined.samples_a[changed]
    columns = (
        frame["example_id"].astype(str),
        a.class_of(frame["label"]),
        a.class_of(frame["prediction"]),
        b.class_of(joined.samples_b.loc[changed, "prediction"]),
        ["lost" if was else "gained" for was in one[changed]],
    )
    for example, class_name, prediction_a, prediction_b, change in zip(*columns, strict=True):
        yield ChangedImage(joined.model, joined.condition, example, class_name, prediction_a, prediction_b, change)
