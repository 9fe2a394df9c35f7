"""The sentences and figures at the top of the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd

from harness.conditions import ATTACK
from harness.records import Status
from harness.reports.load import Results
from harness.reports.names import eps_text, is_missing, model_label, rows_of_model
from harness.reports.rows import rows_of

SHORT_COMMIT = 9
"""Digits of a commit that the page shows."""


@dataclass(frozen=True)
class Fact:
    """One figure with its label."""

    value: str
    label: str
    note: str = ""


def facts(results: Results) -> list[Fact]:
    """Returns the figures at the top of the page: the best models, the expectations, and the state of the grid."""
    board, found = results.leaderboard, []
    if (best := _best(board, "robust_accuracy")) is not None:
        note = f"{model_label(best)}, {best['norm']} eps {eps_text(best['eps'])}"
        floor = best.get("robust_accuracy_floor")
        note += "" if is_missing(floor) else f"; audited, at least {percent(floor)}"
        found.append(Fact(percent(best["robust_accuracy"]), "best robust accuracy", note))
    if (best := _best(board, "clean_accuracy")) is not None:
        found.append(Fact(percent(best["clean_accuracy"]), "best clean accuracy", model_label(best)))
    if len(results.expectations):
        holding = int(results.expectations["holds"].fillna(value=False).sum())
        found.append(Fact(f"{holding} of {len(results.expectations)}", "expectations hold"))
    counts = results.cells["status"].value_counts()
    finished = int(counts.get(Status.DONE, 0) + counts.get(Status.CACHED, 0))
    found.append(Fact(f"{finished} of {len(results.cells)}", "cells with numbers", _without_numbers(counts)))
    return found


def _without_numbers(counts: "pd.Series[int]") -> str:
    states = (Status.SKIPPED, Status.FAILED, Status.NOT_RUN)
    return ", ".join(f"{counts[state]} {state.replace('_', ' ')}" for state in states if counts.get(state, 0))


def summary(results: Results) -> str:
    """Returns the result of the run in a paragraph."""
    board, attacks = results.leaderboard, _attacks(results.cells)
    examples, verb = _count(_examples(results), "example"), "was" if len(board) == 1 else "were"
    sentences = [f"{_count(len(board), 'model')} {verb} judged on {examples} of {_data(results)}"]
    sentences[0] += f", as they are and under {_listed(attacks)}." if attacks else "."
    best, clean = _best(board, "robust_accuracy"), _best(board, "clean_accuracy")
    if clean is not None:
        sentences.append(f"{model_label(clean)} has the highest clean accuracy: {_with_interval(clean, 'clean_accuracy')}.")
    if best is not None:
        sentences.append(
            f"At {best['norm']} eps {eps_text(best['eps'])}, {model_label(best)} has the highest robust accuracy, the worst case "
            f"over attacks: {_with_interval(best, 'robust_accuracy')}{_undecided(best)}"
        )
        same = _first_contest(board)
        ranked = rows_of(same[same["robust_accuracy"].notna() & same["rank"].notna()])
        last = min(ranked, key=lambda row: float(row["robust_accuracy"]))
        sentences[-1] += f"; {model_label(last)} has the lowest: {percent(last['robust_accuracy'])}." if last["rank"] > 1 else "."
    doubted = [f"{model_label(row)} ({row['verdict']})" for row in rows_of(board) if row["verdict"] in ("SUSPECT", "INVALID")]
    if doubted:
        sentences.append(f"The attack check is not PASS for {_listed(doubted)}; the leaderboard has the reasons.")
    return " ".join(sentences)


def cost(results: Results) -> str:
    """Returns what the numbers cost, when, on what and by which code they were computed, in a line."""
    known = results.provenance
    trained = results.training["seconds"].sum() if "seconds" in results.training else 0.0
    attacked = results.cells.loc[results.cells["condition"] == ATTACK, "seconds"].sum()
    git = known.get("git") or {}
    commit = (
        f"commit {str(git['commit'])[:SHORT_COMMIT]}{' with changes' if git.get('dirty') else ''}" if git.get("commit") else ""
    )
    parts = (
        _count(_examples(results), "example"),
        f"{trained:,.0f} s of training" if trained else "",
        f"{attacked:,.0f} s of attacks" if attacked else "",
        str(known.get("device") or ""),
        str(known.get("created") or "")[: len("2026-01-01")],
        commit,
    )
    return " · ".join(part for part in parts if part)


def _examples(results: Results) -> int:
    counts = results.leaderboard["n_examples"]
    return int(counts.max()) if counts.notna().any() else 0


def _data(results: Results) -> str:
    """Returns the data sets by their names, a folder of images by the folder's."""
    given = results.provenance["suite"].get("dataset")
    root = given.get("root") if isinstance(given, Mapping) else None
    return PurePath(str(root)).name if root else " and ".join(results.cells["dataset"].unique())


def training_sentences(results: Results, model: str) -> tuple[str, ...]:
    """Returns which epoch's weights a model has and how they were chosen, and one sentence a warning."""
    if results.training.empty or (rows := rows_of_model(results.training, model)).empty:
        return ()
    row = rows.iloc[0]
    kept = f"Epoch {row['best_epoch']} of {row['epochs']} is kept, by its {row['chosen_by'].replace('_', ' ')}"
    warnings = [] if is_missing(row["warnings"]) else row["warnings"].split("; ")
    return tuple(f"{text[0].upper()}{text[1:]}." for text in (kept, *warnings))


def percent(value: Any) -> str:
    """Returns a rate in per cent, as text."""
    return "no number" if is_missing(value) else f"{100 * value:.1f} %"


def _with_interval(row: dict[Any, Any], name: str) -> str:
    return f"{percent(row[name])} (95 % interval {100 * row[f'{name}_low']:.1f}–{100 * row[f'{name}_high']:.1f})"


def _best(board: pd.DataFrame, column: str) -> dict[Any, Any] | None:
    """Returns the row of the largest number whose attack check is not INVALID; a poisoned model is never called best.

    A robust accuracy is the best of those that met the same attacks: of the first contest.
    """
    board = _first_contest(board) if column == "robust_accuracy" else board
    known = board[board[column].notna() & board["verdict"].ne("INVALID") & board["poison"].isna()]
    return max(rows_of(known), key=lambda row: float(row[column]), default=None)


def _first_contest(board: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the first contest; all where an older run wrote the table."""
    return board[board["contest"] == board["contest"].min()] if board["contest"].notna().any() else board


def _undecided(best: dict[Any, Any]) -> str:
    """Returns with how many others the first place may be exchanged, as a clause; empty where the examples decide it."""
    _, _, last = ("" if is_missing(best["rank_range"]) else str(best["rank_range"])).partition("-")
    return f", but these examples do not tell it from the next {int(last) - 1}" if last.isdigit() else ""


def _attacks(cells: pd.DataFrame) -> list[str]:
    """Returns the attacks that ran, with their steps and restarts where they take more than one."""
    ran = cells[(cells["condition"] == ATTACK) & cells["accuracy"].notna()]
    return [_with_settings(row) for row in rows_of(ran.drop_duplicates("attack"))]


def _with_settings(row: Mapping[Any, Any]) -> str:
    counts = [(row[name], name) for name in ("steps", "restarts") if not is_missing(row[name]) and row[name] > 1]
    return f"{row['attack']} ({', '.join(f'{count:,} {name}' for count, name in counts)})" if counts else str(row["attack"])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
