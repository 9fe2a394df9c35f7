"""Ranks: which models are compared with each other, in which order, and how far the examples distinguish them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.metrics import Flags
from harness.records import Verdict
from harness.reports.decision.intervals import paired_interval
from harness.reports.names import OF_DATA_SET, POISONED, eps_text, is_missing, model_label, with_column_types
from harness.reports.paired import pair_counts, rank_ranges

OTHER_EXAMPLES, UNKNOWN_EXAMPLES = "other examples", "examples unknown, as a run has no samples.parquet"
"""Why models are kept apart whose examples are not shown to be the same."""
CONTEST = ("data_digest", "norm", "eps", "attack_settings", "schema_version")
"""Columns that must be equal for models to be ranked against each other; the settings include the protocol."""
FIRST = ("rank", "rank_range", "contest", "badge")
MOST_NAMED = 20
"""Models that a note names."""
DIFFERENCE = ("difference_to_next", "difference_to_next_low", "difference_to_next_high")
NO_EXAMPLES = "the examples are not stored, so no test says which ranks may be exchanged"
NO_ATTACK = "no attack ran: ranked by clean accuracy"
NOT_ATTACKED = "not attacked: no rank"
OF_POISONED = "trained on poisoned data: no rank among clean models"
OF_INVALID = "INVALID: behind every other number"
NO_NUMBER = "no number: no rank"


@dataclass(frozen=True)
class Entrants:
    """The models of one or more runs before they are ranked: for each row of the table what it met, and where it is right."""

    table: pd.DataFrame
    met: tuple[Mapping[str, str], ...]
    """Settings of each attack behind the reference number -> its label."""
    right: tuple[Flags | None, ...]
    """(N,) on which examples it is right in the worst case; None where the examples are not stored."""


def ranked(entrants: Entrants) -> pd.DataFrame:
    """Returns the rows in order, with ranks within each contest.

    A contest is made of models that were judged on the same examples, in the same norm, at the same budget, by the same attacks
    with the same settings and protocol. Equal numbers share a rank. Models trained on poisoned data have none, nor have those
    that were not attacked where others were. INVALID numbers rank behind all others.
    """
    table = entrants.table.reset_index(drop=True)
    attacked = table["robust_accuracy"].notna()
    by_attacks = bool(attacked.any())
    table["_score"] = (table["robust_accuracy"] if by_attacks else table["clean_accuracy"]).astype(float).round(12)
    table["_invalid"] = table["verdict"].eq(Verdict.INVALID)
    table["_ranks"] = table["_score"].notna() & table["poison"].isna()
    table["contest"] = _contests(table, entrants.met)
    table["badge"] = table["poison"].notna().map({True: POISONED, False: None})
    table["attacks_not_met"] = _not_met(table, entrants.met)
    table["rank_note"] = [_note(row, by_attacks=by_attacks) for row in table.to_dict("records")]
    for name in ("rank", "rank_range", *DIFFERENCE):
        table[name] = None
    for _, rows in table[table["_ranks"]].groupby("contest"):
        for place, values in _placed(_in_order(rows), entrants.right, by_attacks=by_attacks):
            for name, value in values.items():
                table.loc[place, name] = value
    return _finished(_in_order(table))


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    keys = rows.assign(_last=~rows["_ranks"], _score=-rows["_score"], _clean=-rows["clean_accuracy"].astype(float))
    return rows.loc[keys.sort_values(["contest", "_last", "_invalid", "_score", "_clean"], kind="stable").index]


def _contests(table: pd.DataFrame, met: Sequence[Mapping[str, str]]) -> list[int]:
    """Returns the number of each row's contest: 1 is that of most ranked models, of equals that of most attacks."""
    keys = [tuple("" if is_missing(part) else str(part) for part in key) for key in table[list(CONTEST)].itertuples(index=False)]
    entered = dict.fromkeys(keys, 0)
    for key, ranks in zip(keys, table["_ranks"], strict=True):
        entered[key] += bool(ranks)
    attacks = dict(zip(keys, map(len, met), strict=True))
    order = sorted(entered, key=lambda key: (not attacks[key], -entered[key], -attacks[key]))
    return [order.index(key) + 1 for key in keys]


def _not_met(table: pd.DataFrame, met: Sequence[Mapping[str, str]]) -> list[str | None]:
    """Returns the labels of the attacks that others met on the same examples at the same budget, and this model did not."""
    found = []
    places = table[["data_digest", "norm", "eps"]].map(str).agg("|".join, axis=1)
    of_place: dict[str, dict[str, str]] = {}
    for place, own in zip(places, met, strict=True):
        of_place.setdefault(place, {}).update(own)
    for place, own in zip(places, met, strict=True):
        missed = {settings: label for settings, label in of_place[place].items() if settings not in own}
        labels = set(own.values())
        names = dict.fromkeys(settings if label in labels else label for settings, label in missed.items())
        found.append("+".join(names) or None)
    return found


def _note(row: Mapping[Any, Any], *, by_attacks: bool) -> str | None:
    if not is_missing(row["poison"]):
        return OF_POISONED
    if not row["_ranks"]:
        return NOT_ATTACKED if by_attacks and not is_missing(row["clean_accuracy"]) else NO_NUMBER
    if row["_invalid"]:
        return OF_INVALID
    return None if by_attacks else NO_ATTACK


def _placed(rows: pd.DataFrame, right: Sequence[Flags | None], *, by_attacks: bool) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yields the index of each row of a contest, which come best first, with its rank and what it rests on."""
    keys = list(zip(rows["_invalid"], -rows["_score"], strict=True))
    records = rows.to_dict("records")
    sound = [number for number, (invalid, _) in enumerate(keys) if not invalid]
    flags = [right[rows.index[number]] for number in sound]
    known = [it for it in flags if it is not None]
    paired = len(known) == len(flags)
    ranges = rank_ranges(known) if paired else []
    for number, key in enumerate(keys):
        rank = 1 + sum(other < key for other in keys)
        notes = [records[number]["rank_note"]]
        values: dict[str, Any] = {"rank": rank}
        if number in sound:
            place = sound.index(number)
            values |= {"rank_range": _range(*ranges[place])} if paired else {}
            notes += [] if paired or len(sound) == 1 else [NO_EXAMPLES]
            if place + 1 < len(sound):
                values |= _difference(records[number], records[sound[place + 1]], flags[place], flags[place + 1])
        equals = [model_label(records[it]) for it, other in enumerate(keys) if other == key and it != number]
        if equals and by_attacks:
            notes.append(f"as robust as {_named(equals)}: they share the rank, and clean accuracy decides only the order here")
        yield rows.index[number], {**values, "rank_note": "; ".join(note for note in notes if not is_missing(note)) or None}


def _named(labels: Sequence[str]) -> str:
    """Returns the names of some models; of very many how many more there are, as each of them has such a list."""
    more = len(labels) - MOST_NAMED
    return ", ".join(labels) if more <= 0 else f"{', '.join(labels[:MOST_NAMED])} and {more:,} more"


def _range(best: int, worst: int) -> str:
    return f"{best}" if best == worst else f"{best}-{worst}"


def _difference(row: Mapping[Any, Any], other: Mapping[Any, Any], one: Flags | None, two: Flags | None) -> dict[str, float]:
    """Returns by how much a model is ahead of the next one, with the interval of the paired difference where it is known."""
    found = {DIFFERENCE[0]: float(row["_score"] - other["_score"])}
    if one is None or two is None:
        return found
    low, high = paired_interval(pair_counts(one, two))
    return {**found, DIFFERENCE[1]: low, DIFFERENCE[2]: high}


def _finished(table: pd.DataFrame) -> pd.DataFrame:
    table = table.drop(columns=["_score", "_invalid", "_ranks"]).reset_index(drop=True)
    table = with_column_types(table.astype(dict.fromkeys(DIFFERENCE, float)))
    budgets = [name for name in table if str(name).startswith("robust_accuracy[")]
    others = [name for name in table if name not in (*FIRST, *budgets)]
    return table[[*FIRST, *others, *budgets]]


def kept_apart(board: pd.DataFrame) -> list[str]:
    """Returns, for each contest but the first, which models it has and in what it differs from the contest most like it."""
    firsts = {int(row["contest"]): row for row in board[board["contest"].notna()].drop_duplicates("contest").to_dict("records")}
    sentences = []
    for contest in sorted(firsts)[1:]:
        earlier = [other for other in sorted(firsts) if other < contest]
        differing = {other: _differences(firsts[contest], firsts[other]) for other in earlier}
        nearest = min(earlier, key=lambda other: len(differing[other]))
        rows = board[board["contest"] == contest].to_dict("records")
        names = "; ".join(f"{row['suite']}: {model_label(row)}" if "suite" in row else model_label(row) for row in rows)
        why = "; ".join(differing[nearest].values())
        sentences.append(f"contest {contest} ({names}) is apart from contest {nearest}: {why}")
    return sentences


def board_notes(board: pd.DataFrame) -> list[str]:
    """Returns what a reader of a leaderboard must know: what is kept apart, and whether the ranks were tested."""
    untested = bool(board["rank_note"].fillna("").str.contains(NO_EXAMPLES, regex=False).any())
    return kept_apart(board) + [f"{NO_EXAMPLES[0].upper()}{NO_EXAMPLES[1:]}."] * untested


def _differences(row: Mapping[Any, Any], other: Mapping[Any, Any]) -> dict[str, str]:
    """Returns, for each part of a contest in which two rows differ, how."""
    found = {name: "" for name in CONTEST if not _same(row[name], other[name])}
    said = {
        "data_digest": OTHER_EXAMPLES if _has_examples(row) == _has_examples(other) else UNKNOWN_EXAMPLES,
        "norm": f"norm {_shown(row['norm'])} for {_shown(other['norm'])}",
        "eps": f"budget {_budget(row['eps'])} for {_budget(other['eps'])}",
        "schema_version": f"schema {_shown(row['schema_version'])} for {_shown(other['schema_version'])}",
    }
    if "attack_settings" in found:
        said["attack_settings"] = "other attacks" if "data_digest" in found else _of_attacks(row, other)
    return {name: said[name] for name in found}


def _has_examples(row: Mapping[Any, Any]) -> bool:
    """Returns whether a row was made beside samples.parquet, which has the contents of its examples."""
    return not is_missing(row["data_digest"]) and not str(row["data_digest"]).startswith(OF_DATA_SET)


def _of_attacks(row: Mapping[Any, Any], other: Mapping[Any, Any]) -> str:
    own, others = _settings(row), _settings(other)
    if not own:
        return "not attacked"
    missed, added = ([it for it in one if it not in two] for one, two in ((others, own), (own, others)))
    if missed and not added and not is_missing(row["attacks_not_met"]):
        return f"{row['attacks_not_met']} not met"
    return " and ".join([f"without {', '.join(missed)}"] * bool(missed) + [f"with {', '.join(added)}"] * bool(added))


def _settings(row: Mapping[Any, Any]) -> list[str]:
    return [] if is_missing(row["attack_settings"]) else str(row["attack_settings"]).split("; ")


def _same(one: Any, other: Any) -> bool:
    return (is_missing(one) and is_missing(other)) or (not is_missing(one) and not is_missing(other) and bool(one == other))


def _shown(value: Any) -> str:
    return "none" if is_missing(value) else str(value)


def _budget(eps: Any) -> str:
    return "none" if is_missing(eps) else eps_text(float(eps))
