"""What an example is called in every run."""

from collections.abc import Sequence

import pandas as pd


def example_keys(samples: pd.DataFrame, class_names: Sequence[str] = (), *, by: str = "content_hash") -> "pd.Series[str]":
    """Returns a key of each example of a cell that is the same in every run: its content, its class, and which copy it is.

    Args:
        samples: Rows of samples.parquet, of one cell.
        class_names: The names of the classes, which may come in another order in another run; where they are not known,
            the index of a class stands for it.
        by: The column that says which example it is.
    """
    labels = samples["label"].map(dict(enumerate(class_names))) if class_names else samples["label"]
    content = samples[by].astype(str) + "|" + labels.astype(str)
    return content + "|" + content.groupby(content, sort=False).cumcount().astype(str)
