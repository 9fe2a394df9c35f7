"""What a caller of `harness.evaluate` gives to judge: a data set, or labelled images of any common form."""

from collections.abc import Mapping
from typing import NamedTuple

from harness.datasets.base import DATASETS, Dataset
from harness.datasets.tensors import split_of
from harness.datasets.verified import verified
from harness.errors import DataError, only_harness_errors
from harness.images import ImageSplit, composed


class Given(NamedTuple):
    """The examples to judge."""

    split: ImageSplit
    name: str
    """Name of their data set."""
    class_names: tuple[str, ...] = ()
    """Names of its classes, where they are known."""
    remark: str = ""
    """What every row must be read with."""

    def names_of(self, classes: int) -> tuple[str, ...]:
        """Returns the names of so many logits: those of the data set's classes, else numbers."""
        return self.class_names if len(self.class_names) == classes else tuple(map(str, range(classes)))


def examples_of(data: object) -> Given:
    """Returns the examples of a data set that a finished model is judged on, or all that the caller holds.

    Args:
        data: A data set's name, mapping or plug-in; or what `harness.datasets.tensors.split_of` takes.

    Raises:
        SuiteError: if there is no such data set, or a field of it is wrong.
        DataError: if the images are missing or invalid.
    """
    if isinstance(data, str | Mapping):
        data = DATASETS.parse_argument(data, name="data")
    if isinstance(data, Dataset):
        with only_harness_errors(DataError, f"data: loading {data.name}"):
            held = data.load_held()
        return Given(verified(held.split, data.name), data.name, tuple(map(composed, held.class_names)), held.remark)
    return Given(split_of(data), "given")
