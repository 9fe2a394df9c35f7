"""The table crossruntime.csv: one row for each model, condition, runtime and precision."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pandas as pd

from harness.deployment.scores import Score
from harness.suites.entries import Precision

COLUMNS = (
    *("model", "condition", "images", "attack", "norm", "eps", "runtime", "precision", "n_examples"),
    *("accuracy", "robust_accuracy", "attack_success_rate", "agreement", "flips", "flips_outside_margin"),
    *("max_difference", "p99_difference", "images_per_second", "agrees", "reasons", "digest"),
    *("threads", "version"),
)
"""`images` is the condition's name in the bundle; `digest` is that of the cell of the grid."""
SUMMARY_COLUMNS = (
    *("model", "runtime", "precision", "clean accuracy", "robust accuracy, lowest", "rounded", "JPEG", "agreement, lowest"),
    *("flips outside margin", "largest difference", "images/s", "agrees"),
)
TYPES = {"agrees": "boolean", "flips": "Int64", "flips_outside_margin": "Int64", "threads": "Int64"}
"""Of the columns in which a value may be missing."""
VERDICTS = {True: "yes", False: "no"}


class Scored(NamedTuple):
    """The scores of one model file in one runtime."""

    model: str
    runtime: str
    precision: Precision
    scores: Iterable[Score]


def table_of(found: Iterable[Scored]) -> pd.DataFrame:
    """Returns the table.

    The rule of agreement holds for float32, where the stored logits are expected of the file; whether INT8 and FP16 will do
    is for their accuracies to say. All are shown the same images, attacked on the PyTorch model: what INT8 resists of them,
    an attack on INT8 itself may still break.
    """
    rows = [_row(scored, score) for scored in found for score in scored.scores]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(TYPES)


def _row(scored: Scored, score: Score) -> dict[str, Any]:
    condition = score.condition
    judged = scored.precision == "float32" and (score.judged or bool(score.reasons))
    return {
        **vars(score),
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


def summary_of(table: pd.DataFrame) -> Iterator[list[str]]:
    """Yields one row of texts for each model, runtime and precision, in `SUMMARY_COLUMNS`.

    The lowest robust accuracy of all attacks is told for their images as they are, rounded to 8 bits, and through JPEG.
    """
    for (model, runtime, precision), rows in table.groupby(["model", "runtime", "precision"], sort=False):
        robust = rows[rows["norm"].notna()].groupby("condition")["robust_accuracy"].min()
        agrees = rows["agrees"].dropna()
        yield [
            str(model),
            str(runtime),
            str(precision),
            _percent(rows.loc[rows["condition"] == "clean", "accuracy"].min()),
            *(_percent(robust.get(kind)) for kind in ("attack", "rounded8bit", "jpeg")),
            _percent(rows["agreement"].min()),
            str(rows["flips_outside_margin"].sum()),
            "" if rows["max_difference"].isna().all() else f"{rows['max_difference'].max():.2g}",
            f"{rows['n_examples'].sum() / (rows['n_examples'] / rows['images_per_second']).sum():,.0f}",
            "" if agrees.empty else VERDICTS[bool(agrees.all())],
        ]


def disagreements_of(table: pd.DataFrame) -> list[str]:
    """Returns one line for each row that breaks the rule of agreement."""
    broken = table[~table["agrees"].fillna(value=True)]
    return [f"{row['model']}, {row['images']}, {row['runtime']}: {row['reasons']}" for row in broken.to_dict("records")]


def _percent(rate: float | None) -> str:
    return "" if rate is None or pd.isna(rate) else f"{100 * rate:.1f}"
