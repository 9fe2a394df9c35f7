"""The sentences and figures at the top of the page."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.conditions import ATTACK
from harness.records import Status
from harness.reports.load import Results
from harness.reports.names import eps_text, is_missing, model_label, rows_of_model


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
    n = int(board["n_examples"].max()) if board["n_examples"].notna().any() else 0
    datasets = " and ".join(results.cells["dataset"].unique())
    sentences = [
        f"{_count(len(board), 'model')} {'was' if len(board) == 1 else 'were'} judged on {_count(n, 'example')} of {datasets}"
    ]
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
        ranked = same[same["robust_accuracy"].notna() & same["rank"].notna()].to_dict("records")
        last = min(ranked, key=lambda row: float(row["robust_accuracy"]))
        sentences[-1] += f"; {model_label(last)} has the lowest: {percent(last['robust_accuracy'])}." if last["rank"] > 1 else "."
    doubted = [
        f"{model_label(row)} ({row['verdict']})" for row in board.to_dict("records") if row["verdict"] in ("SUSPECT", "INVALID")
    ]
    if doubted:
        sentences.append(f"The attack check is not PASS for {_listed(doubted)}; the leaderboard has the reasons.")
    return " ".join(sentences)


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
    return max(known.to_dict("records"), key=lambda row: float(row[column]), default=None)


def _first_contest(board: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the first contest; all where an older run wrote the table."""
    return board[board["contest"] == board["contest"].min()] if board["contest"].notna().any() else board


def _undecided(best: dict[Any, Any]) -> str:
    """Returns with how many others the first place may be exchanged, as a clause; empty where the examples decide it."""
    _, _, last = ("" if is_missing(best["rank_range"]) else str(best["rank_range"])).partition("-")
    return f", but these examples do not tell it from the next {int(last) - 1}" if last.isdigit() else ""


def _attacks(cells: pd.DataFrame) -> list[str]:
    return list(cells.loc[(cells["condition"] == ATTACK) & cells["accuracy"].notna(), "attack"].unique())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
