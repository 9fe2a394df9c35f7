"""The page's part on deployment: the cost of smaller numbers, and the effect of storing an image."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.reports.load import Results
from harness.reports.names import eps_text, is_missing
from harness.reports.page.tables import SHORT_DIGEST, PageEntry, PageTable, plain_table, rate, text

PRECISIONS = {"float32": "float", "int8": "INT8", "fp16": "FP16"}
AS_IT_IS = "as it is"
STORED = {"rounded8bit": "rounded to 8 bits", "jpeg": "through JPEG"}
KINDS = {**dict.fromkeys(("clean", "trigger", "attack"), AS_IT_IS), **STORED}
CONDITION = ["model", "attack", "norm", "eps"]
NEEDED = {*CONDITION, "condition", "runtime", "precision", "robust_accuracy", "accuracy"}


def runtime_tables(results: Results) -> list[PageTable]:
    """Returns the tables of precisions and of stored images, where the cross-check has them, and all its rows."""
    table = results.crossruntime
    if table.empty:
        return []
    answers = [_precisions(table), _storage(table)] if set(table.columns) >= NEEDED else []
    return [*(answer for answer in answers if answer is not None), _all_rows(table)]


def _all_rows(table: pd.DataFrame) -> PageTable:
    """Returns every row, without columns that have no entry."""
    shown = table.dropna(axis="columns", how="all")
    if "digest" in shown:
        shown = shown.assign(digest=shown["digest"].str[:SHORT_DIGEST])
    caption, tools = "The same inputs in every runtime", "table-runtimes"
    return replace(plain_table(shown, caption), tools=tools, hint="int8", file="crossruntime.csv")


def agreement(table: pd.DataFrame) -> str:
    """Returns in a sentence whether every runtime predicts what PyTorch predicts, on every image that was compared."""
    if table.empty or not {"runtime", "precision", "flips", "n_examples"} <= set(table.columns):
        return ""
    others = table[(table["runtime"] != "PyTorch") & table["flips"].notna()]
    exact = others[others["precision"] == "float32"]
    sentences = []
    if len(exact):
        flips, n = int(exact["flips"].sum()), int(exact["n_examples"].sum())
        agrees = f"Yes: the float model's {n:,} predictions in other runtimes are PyTorch's, on every image."
        sentences.append(
            f"No: {flips:,} of the float model's {n:,} predictions in other runtimes are not PyTorch's." if flips else agrees
        )
    for precision, rows in others[others["precision"] != "float32"].groupby("precision", sort=False):
        flips, n = int(rows["flips"].sum()), int(rows["n_examples"].sum())
        sentences.append(f"{PRECISIONS.get(str(precision), precision)} predicts otherwise on {flips:,} of {n:,}.")
    return " ".join(sentences)


def _precisions(table: pd.DataFrame) -> PageTable | None:
    """Returns each condition in each precision, in C++ if it ran: robust accuracy, or accuracy where no attack ran."""
    files = table[table["runtime"] != "PyTorch"]
    shown = files[files["condition"].isin(["clean", "attack"]) & (files["runtime"] == files["runtime"].min())]
    found = [name for name in PRECISIONS if name in set(shown["precision"])]
    if len(found) < 2:
        return None
    scores = shown["robust_accuracy"].fillna(shown["accuracy"])
    rows = _pivoted(shown.assign(score=scores), "precision", found)
    caption = f"What smaller numbers cost: accuracy and robust accuracy in {shown['runtime'].iloc[0]}"
    return _table(caption, [PRECISIONS[name] for name in found], rows)


def _storage(table: pd.DataFrame) -> PageTable | None:
    """Returns images as they are and as files store them, in the first runtime of the float model: clean and attacked ones.

    Attacked images have their robust accuracy. Corruptions and folders are only in the table of all rows.
    """
    shown = table[(table["precision"] == "float32") & (table["runtime"] == table["runtime"].iloc[0])]
    shown = shown[shown["condition"].isin(KINDS) & (shown["robust_accuracy"].notna() | shown["attack"].isna())]
    found = [name for name in (AS_IT_IS, *STORED.values()) if name in set(shown["condition"].map(KINDS))]
    if len(found) < 2:
        return None
    scores = shown["robust_accuracy"].fillna(shown["accuracy"])
    rows = _pivoted(shown.assign(score=scores, stored=shown["condition"].map(KINDS)), "stored", found)
    caption = f"What storing an image changes: accuracy, of attacked ones robust accuracy, in {table['runtime'].iloc[0]}"
    return _table(caption, found, rows)


def _pivoted(table: pd.DataFrame, by: str, columns: list[str]) -> Iterator[tuple[PageEntry, ...]]:
    for _, rows in table.groupby(CONDITION, sort=False, dropna=False):
        scores = {row[by]: _score(row) for row in rows.to_dict("records")}
        first = rows.iloc[0].to_dict()
        yield text(first["model"]), PageEntry(_condition(first)), *(scores.get(column, rate(None)) for column in columns)


def _score(row: Mapping[Hashable, Any]) -> PageEntry:
    """Returns an accuracy, with the share of the pixels that its file clips, where the file has a range of pixels."""
    clipped: Any = row.get("clipped_share")
    shown = rate(row["score"], bar=True)
    return shown if is_missing(clipped) else replace(shown, detail=f"{100 * clipped:.1f} % of the pixels clipped")


def _condition(row: Mapping[Hashable, Any]) -> str:
    if is_missing(row["attack"]) or is_missing(row["norm"]):
        return "clean" if is_missing(row["attack"]) else str(row["attack"])
    return f"{row['attack']} {row['norm']} {eps_text(row['eps'])}"


def _table(caption: str, columns: list[str], rows: Iterator[tuple[PageEntry, ...]]) -> PageTable:
    return PageTable(caption, ("model", "images", *columns), tuple(rows), frozenset(range(2, 2 + len(columns))))
