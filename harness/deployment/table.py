"""The table crossruntime.csv: one row for each model, condition, runtime and precision."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from harness.deployment.scores import Score
from harness.reports.names import rate_text
from harness.suites.entries import Precision

COLUMNS = (
    *("model", "condition", "images", "attack", "norm", "eps", "runtime", "precision", "n_examples"),
    *("accuracy", "robust_accuracy", "attack_success_rate", "agreement", "flips", "flips_outside_margin"),
    *("max_difference", "p99_difference", "images_per_second", "agrees", "reasons", "digest"),
    *("threads", "version", "p99_relative", "made_against", "transfer_accuracy", "transfer_success_rate"),
    "clipped_share",
)
"""`images` is the condition's name in the bundle; `digest` is that of the cell of the grid."""
ROBUST, TRANSFER = "robust accuracy, lowest", "transfer accuracy, lowest"
"""Headings of the same column of the summary: of a network, and of one that the images were not made against."""
CLIPPED = "pixels clipped"
"""Heading of the share of those images' pixels that the file clips, of the attack that has most."""
SUMMARY_COLUMNS = (
    *("model", "runtime", "precision", "clean accuracy", ROBUST, CLIPPED, "rounded", "JPEG", "agreement, lowest"),
    *("flips outside margin", "largest difference", "images/s", "agrees"),
)
TYPES = {"agrees": "boolean", "flips": "Int64", "flips_outside_margin": "Int64", "threads": "Int64"}
"""Of the columns in which a value may be missing."""
RATES = ("robust_accuracy", "attack_success_rate", "transfer_accuracy", "transfer_success_rate", "clipped_share")
"""Columns of numbers, even where none is known."""
YES_NO = {True: "yes", False: "no"}
MADE_AGAINST: dict[Precision, str] = {"float32": "itself", "int8": "its float network", "fp16": "its float network"}
"""Precision of a file -> the network that its attacked images were made against."""


class Scored(NamedTuple):
    """The scores of one model file in one runtime."""

    model: str
    runtime: str
    precision: Precision
    scores: Sequence[Score]
    made_against: str | None = None
    """The other network that the attacked images were made against; None where it was this one."""


def table_of(found: Iterable[Scored]) -> pd.DataFrame:
    """Returns the table.

    The rule of agreement applies to float32 files, which must give the stored logits. INT8 and FP16 files are not judged; their
    accuracies show what smaller numbers cost. All files see the same images, attacked on the PyTorch model: an attack on the INT8
    file itself may leave less. On another network than the attacked one these images give transfer accuracy, and robust accuracy
    is missing.
    """
    rows = [_row(scored, score) for scored in found for score in scored.scores]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(TYPES | dict.fromkeys(RATES, "float64"))


def _row(scored: Scored, score: Score) -> dict[str, Any]:
    condition = score.condition
    judged = scored.precision == "float32" and (score.judged or bool(score.reasons))
    return {
        **vars(score),
        **_of_attack(scored, score),
        "model": scored.model,
        "condition": condition.kind,
        "images": condition.name,
        "attack": condition.attack,
        "norm": condition.norm,
        "eps": None if condition.eps is None else float(condition.eps),
        "runtime": scored.runtime,
        "precision": scored.precision,
        "agrees": not score.reasons if judged else None,
        "reasons": "; ".join(score.reasons) if judged else "",
        "digest": condition.digest,
    }


def _of_attack(scored: Scored, score: Score) -> dict[str, float | str | None]:
    """Returns the numbers of an attack's images, as robust or as transfer accuracy."""
    if score.condition.norm is None:
        return {}
    if scored.made_against is None:
        return {"made_against": MADE_AGAINST[scored.precision]}
    return {
        "made_against": f"another network: {scored.made_against}",
        "transfer_accuracy": score.robust_accuracy,
        "transfer_success_rate": score.attack_success_rate,
        "robust_accuracy": None,
        "attack_success_rate": None,
    }


def is_transfer(table: pd.DataFrame) -> bool:
    """Returns whether the attacked images were made against another network; a table is of one such file, or of none."""
    return bool(table["transfer_accuracy"].notna().any())


def summary_columns(table: pd.DataFrame) -> tuple[str, ...]:
    """Returns the headings of `summary_of`."""
    return tuple(TRANSFER if name == ROBUST and is_transfer(table) else name for name in SUMMARY_COLUMNS)


def summary_of(table: pd.DataFrame) -> Iterator[list[str]]:
    """Yields one row of texts for each model, runtime and precision, in `summary_columns`.

    A row has the lowest robust accuracy of all attacks on their images as they are, rounded to 8 bits, and stored as JPEG; where
    the images were made against another network, the lowest transfer accuracy. It also has the largest share of pixels of
    the images as they are that the file clips.
    """
    for (model, runtime, precision), rows in table.groupby(["model", "runtime", "precision"], sort=False):
        attacked = rows[rows["norm"].notna()]
        left = attacked["robust_accuracy"].fillna(attacked["transfer_accuracy"])
        robust = left.groupby(attacked["condition"]).min()
        agrees = rows["agrees"].dropna()
        yield [
            str(model),
            str(runtime),
            str(precision),
            rate_text(rows.loc[rows["condition"] == "clean", "accuracy"].min()),
            rate_text(robust.get("attack")),
            rate_text(attacked.loc[attacked["condition"] == "attack", "clipped_share"].max()),
            *(rate_text(robust.get(kind)) for kind in ("rounded8bit", "jpeg")),
            rate_text(rows["agreement"].min()),
            str(rows["flips_outside_margin"].sum()),
            "" if rows["max_difference"].isna().all() else f"{rows['max_difference'].max():.2g}",
            f"{rows['n_examples'].sum() / (rows['n_examples'] / rows['images_per_second']).sum():,.0f}",
            "" if agrees.empty else YES_NO[bool(agrees.all())],
        ]


def clipped_lines(table: pd.DataFrame) -> list[str]:
    """Returns one line for each file that clips pixels of attacked images."""
    clipped = table[table["norm"].notna() & (table["clipped_share"] > 0)]
    most = clipped.groupby(["model", "precision"], sort=False)["clipped_share"].max().reset_index()
    return [
        f"{row['model']}, {row['precision']}: the file clips up to {100 * row['clipped_share']:.2g} % of the pixel values of an "
        "attack's images, as it keeps no number for black or white; its network sees other images than the attack made"
        for row in most.to_dict("records")
    ]


def disagreements_of(table: pd.DataFrame) -> list[str]:
    """Returns one line for each row that breaks the rule of agreement."""
    broken = table[~table["agrees"].fillna(value=True)]
    return [f"{row['model']}, {row['images']}, {row['runtime']}: {row['reasons']}" for row in broken.to_dict("records")]
