"""Whether a suite's requirements are met: by the intervals of its numbers, and by what its attacks leave open."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Literal, NamedTuple

import pandas as pd

from harness.conditions import condition_kind
from harness.errors import HarnessError
from harness.metrics import Interval
from harness.reports.decision.intervals import PairCounts, examples_for_pairs, examples_for_rate, paired_interval, score_interval
from harness.reports.decision.measured import Measured, Subject, condition_of, identity, measure, of_runtime, pairs, subjects
from harness.reports.decision.strength import Strength, strength_of
from harness.reports.load import Results
from harness.reports.names import model_label
from harness.spec import parse_spec
from harness.suites.requirements import WORST_CASE, WORST_CLASS, RequirementEntry

NO_SAMPLES = "samples.parquet is not in the folder, which has the examples"


class Finding(StrEnum):
    """What a run says of a requirement."""

    MET = "MET"
    NOT_MET = "NOT MET"
    NOT_SHOWN = "NOT SHOWN"


class Bound(NamedTuple):
    """One bound of a requirement."""

    kind: Literal["at_least", "at_most", "above"]
    value: float

    def finding(self, low: float, high: float) -> Finding:
        """Returns whether every value of an interval is on the right side, on the wrong one, or neither."""
        if self.kind == "at_most":
            return Finding.MET if high <= self.value else Finding.NOT_MET if low > self.value else Finding.NOT_SHOWN
        return Finding.MET if low >= self.value else Finding.NOT_MET if high < self.value else Finding.NOT_SHOWN


@dataclass(frozen=True)
class Requirement:
    """A row of requirements.csv: one bound of a requirement on one model."""

    text: str
    """The requirement in words."""
    outcome: Finding
    found: float | None = None
    """The share, or the difference of two; None where there is no number."""
    low: float | None = None
    """Lower end of its interval: of the sampling of examples, and of the audit's floor."""
    high: float | None = None
    """Upper end."""
    bound: float | None = None
    """The value that the interval must lie on the right side of."""
    reason: str = ""
    """Why it is not met, or not shown."""
    needed_examples: int | None = None
    """How many more examples would decide it at the same shares; None where it is decided, or no number would."""
    model: str = ""
    """The model's label in the suite."""
    kind: str = ""
    """at_least, at_most or above."""
    n_examples: int | None = None
    confidence: float | None = None
    dataset: str | None = None
    """This and the following identify the model as in every table; None where the grid has no such model."""
    arch: str | None = None
    recipe: str | None = None
    poison: str | None = None
    poison_rate: float | None = None
    seed: int | None = None


COLUMNS = tuple(Requirement.__dataclass_fields__)
"""Columns of requirements.csv, in order."""


class _Judged(NamedTuple):
    """A number with its interval; what the attack leaves open is in `worst_low` and `worst_high`."""

    value: float
    low: float
    high: float
    worst_low: float
    worst_high: float
    n: int
    weak: str
    more: int | None
    """How many more examples would decide it at the same shares; None if no number would."""


def requirement_entries(results: Results) -> tuple[RequirementEntry, ...]:
    """Returns the requirements of the suite that a results folder is of.

    Raises:
        HarnessError: if provenance.json holds something else.
    """
    found, where = results.provenance["suite"].get("requirements") or (), results.folder / "provenance.json"
    if not isinstance(found, list | tuple) or not all(isinstance(it, dict) for it in found):
        raise HarnessError(f"{where}: suite.requirements: expected a list of requirements, found something else")
    return tuple(
        parse_spec(RequirementEntry, it, where=f"{where}: suite.requirements.{number}", error=HarnessError)
        for number, it in enumerate(found)
    )


def judge_requirements(results: Results) -> tuple[Requirement, ...]:
    """Returns every requirement of a suite with its outcome, each bound and each model by itself.

    Raises:
        HarnessError: if a table is damaged.
    """
    return tuple(
        replace(_judge(results, entry, bound, subject), **identity(results, subject))
        for entry in requirement_entries(results)
        for bound in _bounds(entry)
        for subject in subjects(results, entry)
    )


def requirements_table(found: Iterable[Requirement]) -> pd.DataFrame:
    """Returns the table requirements.csv."""
    table = pd.DataFrame([asdict(it) for it in found], columns=list(COLUMNS))
    return table.astype(
        {"needed_examples": "Int64", "n_examples": "Int64", "seed": "Int64", **dict.fromkeys(("found", "low", "high"), float)}
    )


def _bounds(entry: RequirementEntry) -> Iterator[Bound]:
    if entry.at_least is not None:
        yield Bound("at_least", entry.at_least)
    if entry.at_most is not None:
        yield Bound("at_most", entry.at_most)
    if entry.above is not None:
        yield Bound("above", entry.by)


def _judge(results: Results, entry: RequirementEntry, bound: Bound, subject: Subject) -> Requirement:
    text = words(entry, bound, subject)
    number = _difference(results, entry, bound, subject) if bound.kind == "above" else _share(results, entry, bound, subject)
    if isinstance(number, str):
        return Requirement(
            text,
            Finding.NOT_SHOWN,
            None,
            None,
            None,
            bound.value,
            number,
            None,
            subject.model,
            bound.kind,
            None,
            entry.confidence,
        )
    outcome = bound.finding(number.worst_low, number.worst_high)
    needed = None if outcome is not Finding.NOT_SHOWN or number.weak else number.more
    return Requirement(
        text=text,
        outcome=outcome,
        found=number.value,
        low=number.low,
        high=number.high,
        bound=bound.value,
        reason=_why(outcome, bound, number, needed),
        needed_examples=needed,
        model=subject.model,
        kind=bound.kind,
        n_examples=number.n,
        confidence=entry.confidence,
    )


def _why(outcome: Finding, bound: Bound, number: _Judged, needed: int | None) -> str:
    """Returns the reason of an outcome that is not MET."""
    interval = f"{number.value:.3f} [{number.low:.3f}, {number.high:.3f}] of {number.n} examples"
    if outcome is Finding.MET:
        return ""
    if outcome is Finding.NOT_MET:
        side = "above" if bound.kind == "at_most" else "below"
        return f"{interval} lies {side} {bound.value:g}"
    if number.weak:
        return number.weak
    more = f"{needed:,} more examples would decide it" if needed else "no number of examples like these would decide it"
    return f"{interval} does not exclude {'more' if bound.kind == 'at_most' else 'less'} than {bound.value:g}; {more}"


def _share(results: Results, entry: RequirementEntry, bound: Bound, subject: Subject) -> _Judged | str:
    """Returns the number of one model, or why there is none."""
    condition = condition_of(results, entry, subject)
    if condition.lacks:
        return condition.lacks
    strength = strength_of(results, entry, subject, condition)
    if strength.invalid:
        return strength.invalid
    if entry.runtime is not None:
        found = of_runtime(results, entry, condition)
        if found is None:
            return "the cross-check has no such row for the current model; run `harness crosscheck`"
        of_sample = replace(strength, lost=strength.lost * found.n / int(condition.rows["n_examples"].iloc[0]))
        return _interval_of(found, entry, bound, of_sample)
    if entry.class_name == WORST_CLASS:
        return _worst_class(results, entry, bound, subject, strength)
    measured = measure(results, entry, condition, entry.class_name)
    return _interval_of(measured, entry, bound, strength) if measured.n else _nothing(results)


def _nothing(results: Results) -> str:
    return "there is no example to measure it on" if results.has_samples else NO_SAMPLES


def _interval_of(measured: Measured, entry: RequirementEntry, bound: Bound, strength: Strength) -> _Judged:
    """Returns the interval: of the share, with what the audit leaves open taken off its count at the side of the attacker."""
    low, high, worst_low, worst_high = _ends(measured, entry, strength, entry.confidence)
    below, above = (_counts(measured, entry, strength)[place] / measured.n for place in (0, 1))
    for_met, for_not = (above, below) if bound.kind == "at_most" else (below, above)
    met = for_met < bound.value if bound.kind == "at_most" else for_met > bound.value
    missed = for_not > bound.value if bound.kind == "at_most" else for_not < bound.value
    rate = for_met if met else for_not if missed else None
    more = None if rate is None else _beyond(measured.n, examples_for_rate(rate, bound.value, entry.confidence))
    return _Judged(measured.value, low, high, worst_low, worst_high, measured.n, strength.weak, more)


def _beyond(n: int, needed: int | None) -> int | None:
    return None if needed is None else max(needed - n, 1)


def _counts(measured: Measured, entry: RequirementEntry, strength: Strength) -> tuple[float, float]:
    """Returns the counts that the lower and the upper end are taken of: what the audit leaves open counts as lost."""
    lost = math.ceil(strength.lost - 1e-9)
    if entry.metric == "attack_success_rate":
        return measured.total, min(measured.total + lost, measured.n)
    return max(measured.total - lost, 0.0), measured.total


def _ends(
    measured: Measured, entry: RequirementEntry, strength: Strength, confidence: float
) -> tuple[float, float, float, float]:
    """Returns the ends of the interval, and those with what a weak attack leaves open: on its side, anything."""
    fewest, most = _counts(measured, entry, strength)
    low = score_interval(fewest / measured.n, measured.n, confidence).low
    high = score_interval(most / measured.n, measured.n, confidence).high
    if not strength.weak:
        return low, high, low, high
    return (low, high, low, 1.0) if entry.metric == "attack_success_rate" else (low, high, 0.0, high)


def _worst_class(results: Results, entry: RequirementEntry, bound: Bound, subject: Subject, strength: Strength) -> _Judged | str:
    """Returns the number of the class that does worst.

    That every class meets a bound is shown where each does at the requirement's confidence: an intersection-union test. That one
    of K does not is shown at 1 - (1 - confidence) / K, as the lowest of K shares is low by chance (Bonferroni).

    Source: Berger 1982, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24.
    """
    condition = condition_of(results, entry, subject)
    names = list(results.provenance["class_names"])
    found = {name: measure(results, entry, condition, name) for name in names}
    if empty := [name for name, it in found.items() if not it.n]:
        return f"class {empty[0]} has no example" if results.has_samples else NO_SAMPLES
    strict = 1 - (1 - entry.confidence) / len(names)
    plain = [_ends(it, entry, strength, entry.confidence) for it in found.values()]
    bonferroni = [_ends(it, entry, strength, strict) for it in found.values()]
    worst = min(found.values(), key=lambda it: it.value)
    low, worst_low = (min(ends[place] for ends in plain) for place in (0, 2))
    high, worst_high = (min(ends[place] for ends in bonferroni) for place in (1, 3))
    more = _more_of_each_class(list(found.values()), entry, bound, strength, strict=strict)
    return _Judged(worst.value, low, high, worst_low, worst_high, worst.n, strength.weak, more)


def _more_of_each_class(
    found: list[Measured], entry: RequirementEntry, bound: Bound, strength: Strength, *, strict: float
) -> int | None:
    """Returns how many more examples of a class would decide it: the most that one of them needs, or what shows the worst one."""
    worst = min(found, key=lambda it: it.value)
    if bound.kind == "at_most" or worst.value == bound.value:
        return None
    if worst.value < bound.value:
        return _beyond(worst.n, examples_for_rate(worst.value, bound.value, strict))
    open_ones = [it for it in found if _ends(it, entry, strength, entry.confidence)[0] < bound.value]
    rates = [_counts(it, entry, strength)[0] / it.n for it in open_ones]
    if any(rate <= bound.value for rate in rates):
        return None
    needed = [examples_for_rate(rate, bound.value, entry.confidence) for rate in rates]
    return max((_beyond(it.n, more) or 0 for it, more in zip(open_ones, needed, strict=True)), default=None)


def _difference(results: Results, entry: RequirementEntry, bound: Bound, subject: Subject) -> _Judged | str:
    """Returns the difference to another model on the same examples, or why there is none."""
    both = (subject, subject._replace(model=str(entry.above)))
    conditions = [condition_of(results, entry, it) for it in both]
    for it, condition in zip(both, conditions, strict=True):
        if condition.lacks:
            return f"{it.model}: {condition.lacks}"
    strengths = [strength_of(results, entry, *pair) for pair in zip(both, conditions, strict=True)]
    for it, strength in zip(both, strengths, strict=True):
        if strength.invalid:
            return f"{it.model}: {strength.invalid}"
    counts = pairs(*(measure(results, entry, condition, entry.class_name) for condition in conditions))
    if counts is None or not counts.n:
        return "the two were not measured on the same examples" if results.has_samples else NO_SAMPLES
    return _interval_of_pairs(counts, both, strengths, entry=entry, bound=bound)


def _interval_of_pairs(
    counts: PairCounts, both: tuple[Subject, Subject], strengths: list[Strength], *, entry: RequirementEntry, bound: Bound
) -> _Judged:
    """Returns the interval of a difference; what an attack may still take from the first lowers it, from the second raises it."""
    n, (own, rival) = round(counts.n), strengths
    sampled = paired_interval(counts, entry.confidence)
    interval = Interval(max(-1.0, sampled.low - own.lost / n), min(1.0, sampled.high + rival.lost / n))
    worst = Interval(-1.0 if own.weak else interval.low, 1.0 if rival.weak else interval.high)
    weak = "; ".join(f"{it.model}: {strength.weak}" for it, strength in zip(both, strengths, strict=True) if strength.weak)
    met, missed = counts.difference - own.lost / n > bound.value, counts.difference + rival.lost / n < bound.value
    shifted = bound.value + (own.lost if met else -rival.lost) / n
    more = _beyond(n, examples_for_pairs(counts, shifted, entry.confidence)) if met or missed else None
    return _Judged(counts.difference, *interval, *worst, n, weak, more)


def words(entry: RequirementEntry, bound: Bound, subject: Subject) -> str:
    """Returns one bound of a requirement in words."""
    label = model_label({"model": subject.model, "poison": subject.poison, "poison_rate": subject.rate, "seed": subject.seed})
    of_class = {None: "", WORST_CLASS: " of the worst class"}.get(entry.class_name, f" of class {entry.class_name}")
    asked = {
        "at_least": f"is at least {bound.value:g}",
        "at_most": f"is at most {bound.value:g}",
        "above": f"surpasses that of {entry.above} by {bound.value:g} or more",
    }[bound.kind]
    runtime = "" if entry.runtime is None else f" in {entry.runtime}, {entry.precision}"
    strong = ", by a strong attack" if entry.strong else ""
    return f"{entry.metric}{of_class} of {label} {_place(entry)}{runtime} {asked}{strong}"


def _place(entry: RequirementEntry) -> str:
    if entry.metric == "mean_corruption_accuracy":
        return "over the common corruptions"
    if entry.attack is not None:
        attack = "the worst case over attacks" if entry.attack == WORST_CASE else entry.attack
        return f"under {attack} at {'' if entry.norm is None else f'{entry.norm.value} '}eps {entry.eps}"
    if entry.corruption is not None:
        return f"under {entry.corruption} " + ("over its severities" if entry.severity is None else f"{entry.severity}")
    return f"on the folder {entry.folder}" if entry.folder is not None else condition_kind(entry.condition).in_words
